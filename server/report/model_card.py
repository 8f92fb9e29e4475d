"""The model card: README.md of the released PEFT folder, with the metadata that hubs read.

Names and rules of sites come from the sites; nothing of them is taken as Markdown.
"""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Sequence
from typing import Any

from common.backbones.catalog import CATALOG, FAMILIES
from common.reporting.phrasing import (
    MODELS,
    NOTHING,
    SPLIT_WORDS,
    VITAL_LABELS,
    bounds,
    count,
    mean_finding,
    number,
    percent,
)
from server.report.clinical_text import RANGE_ANNOUNCED, range_in_words, vital_errors
from server.report.privacy import promise, site_guarantees
from server.runs.run_reader import RunRecord

_WIDTH = 100
_LONGEST_TEXT = 200
_MARKUP = re.compile(r"([\\`*_{}\[\]()#+!|<>~$&])")

_PURPOSE = """\
A LoRA adapter for the frozen forecasting model **{backbone}**, trained on the vital signs of
intensive-care patients by {sites} sites that shared adapters and never records. It is the average
of the sites' adapters after round {round} of {rounds}. It forecasts {horizon} steps of
{minutes} min from the {context} before them, for: {vitals}."""

_LIMITS = """\
- **Not for clinical use.** It is research software: not a medical device, not validated
  prospectively, and no decision about a patient may rest on it.
- It was trained on patients chosen by the rule above, at the sites above. Other hospitals, wards,
  ages or charting habits may differ, and the adapter may then forecast worse than the backbone
  without it: evaluate it on your own patients first (`python -m server evaluate`).
- Intervals are 95 % bootstrap intervals over patients; they do not hold the variation between
  training runs with other seeds.
- A forecast shows what usually follows, treatment included; it is no statement of what would
  happen without treatment.
- An adapter can give away something of the data that it was trained on; what bound there is on that
  stands under Privacy."""

_LICENCE = """\
The coordinator who publishes this adapter chooses its licence and states it here and in the
metadata; until then it is `other`: all rights reserved. Data-use agreements of the sites' data and
the licence of the backbone may bind that choice."""

_WITH_FEDVITALS = """\
With fedvitals, exactly as evaluated (temperatures and other nearly constant series have a floor
under their scale there):

```python
from common.backbones.loading import load_backbone
from peft import PeftModel

loaded = load_backbone({backbone})
model = PeftModel.from_pretrained(loaded.model, "adapter").eval()  # this folder
```"""


def model_card(record: RunRecord) -> str:
    """Return the card as Markdown with YAML metadata; the same run gives the same text."""
    sections = [
        _metadata(record),
        f"# Federated LoRA adapter for {plain(record.backbone_name)}",
        _purpose(record),
        _backbone(record),
        "## Training data",
        _sites(record),
        "## Results",
        _results(record),
        "## How to load it",
        *_snippets(record),
        "## Privacy",
        _privacy(record),
        "## Settings",
        _settings(record),
        "## Limits",
        _LIMITS,
        "## Licence",
        _paragraph(_LICENCE),
    ]
    return "\n\n".join(sections) + "\n"


def plain(text: object) -> str:
    """Return text that Markdown shows as it is: one line, not too long, nothing of it markup."""
    line = " ".join("".join(c if c.isprintable() else " " for c in str(text)).split())
    short = line if len(line) <= _LONGEST_TEXT else line[: _LONGEST_TEXT - 1] + "…"
    return _MARKUP.sub(r"\\\1", short)


def _metadata(record: RunRecord) -> str:
    # A JSON string is a YAML string, whatever it holds.
    base = json.dumps(record.backbone_name)
    return "\n".join(
        [
            "---",
            "license: other",
            "library_name: peft",
            "pipeline_tag: time-series-forecasting",
            f"base_model: {base}",
            "tags:",
            *(
                f"- {tag}"
                for tag in ("lora", "federated-learning", "time-series", "vital-signs", "fedvitals")
            ),
            "---",
        ]
    )


def _purpose(record: RunRecord) -> str:
    settings = record.settings
    vitals = settings.get("windows.vitals", "all")
    names = VITAL_LABELS if vitals == "all" else str(vitals).split(",")
    labels = [VITAL_LABELS.get(name.strip(), name).lower() for name in names]
    return _paragraph(
        _PURPOSE.format(
            backbone=plain(record.backbone_name),
            sites=len(record.sites),
            round=record.best_round,
            rounds=record.trained_rounds,
            horizon=settings.get("windows.horizon", NOTHING),
            context=settings.get("windows.context", NOTHING),
            minutes=record.step_minutes,
            vitals=", ".join(labels),
        )
    )


def _backbone(record: RunRecord) -> str:
    adapter, backbone = record.adapter, record.backbone
    rows = [
        ("backbone", f"{plain(record.backbone_name)} ({plain(backbone.get('family', ''))})"),
        ("backbone digest (SHA-256)", f"`{adapter.backbone_digest}`"),
        ("backbone parameters", f"{int(backbone.get('parameters', 0)):,}, frozen"),
        ("adapter parameters", f"{adapter.num_parameters:,} in {len(adapter.modules)} layers"),
        ("rank, alpha", f"{adapter.rank}, {adapter.alpha:g}"),
        ("adapter digest (SHA-256)", f"`{adapter.digest()}`"),
    ]
    return _table(("", ""), rows)


def _sites(record: RunRecord) -> str:
    rows = [
        (
            plain(name),
            count(site.get("patients")),
            count(site.get("windows")),
            plain(site["source"]),
            plain(site["rule"]),
        )
        for name, site in record.sites.items()
    ]
    header = ("site", "training patients", "training windows", "source", "cohort rule")
    return _table(header, rows)


def _results(record: RunRecord) -> str:
    if record.evaluation is None:
        return _paragraph(_validation_only(record))
    evaluation = record.evaluation
    pooled = evaluation["pooled"]
    mean = pooled["models"]["adapter"]["mean"]
    intro = (
        f"On {mean['patients']:,} {SPLIT_WORDS[evaluation['split']]} ({mean['windows']:,} windows, "
        f"in the mean over {len(pooled['models']['adapter']['vitals'])} vital signs): "
        f"{mean_finding(evaluation, 'wql')}; {mean_finding(evaluation, 'mae')}."
    )
    errors = [f"- {sentence}" for sentence in vital_errors(evaluation)]
    calibration = pooled.get("calibration")
    held = range_in_words(calibration["adapter"]) if calibration else []
    ranges = f"{RANGE_ANNOUNCED} {' '.join(held)}" if held else ""
    parts = [
        _paragraph(intro),
        _results_table(pooled),
        _paragraph(_READING),
        "\n".join(map(_item, errors)),
        _paragraph(ranges),
    ]
    return "\n\n".join(filter(None, parts))


_READING = """\
Weighted quantile loss (WQL), lower is better. The last column is the relative difference of the
adapter to the backbone without it, with its interval. All metrics, per site and vital, are in the
run's `evaluation.json` and `report.html`. In the vitals' own units, averaged over all measurements
in the hours forecast:"""


def _results_table(pooled: dict[str, Any]) -> str:
    models, differences = pooled["models"], pooled["differences"]["zero_shot"]
    order = [model for model in MODELS if model in models]
    rows = [
        (
            VITAL_LABELS[vital],
            *(number(models[model]["vitals"][vital]["wql"], 4) for model in order),
            _difference(differences["vitals"][vital]["wql"]["relative"]),
        )
        for vital in models["adapter"]["vitals"]
    ]
    means = (number(models[model]["mean"]["wql"], 4) for model in order)
    rows.append(("**mean**", *means, _difference(differences["mean"]["wql"]["relative"])))
    header = ("vital sign", *(MODELS[model] for model in order), "adapter to zero-shot")
    return _table(header, rows)


def _difference(interval: dict[str, Any]) -> str:
    return f"{percent(interval['estimate'])} {bounds(interval)}".rstrip()


def _validation_only(record: RunRecord) -> str:
    curve = dict(record.validation_curve())
    first, best = curve.get(0), curve.get(record.best_round)
    if first is None or best is None:
        return "Not evaluated, and no site had validation patients: nothing is known of its skill."
    return (
        f"Not evaluated on test patients yet. On the sites' validation patients WQL was "
        f"{number(first, 4)} before training and {number(best, 4)} after round "
        f"{record.best_round}; that round was chosen by this very figure, which is therefore "
        "optimistic and has no interval."
    )


def _snippets(record: RunRecord) -> list[str]:
    name = record.backbone_name
    known, folder = CATALOG.get(name), f"path/to/{name}"
    with_fedvitals = _WITH_FEDVITALS.format(backbone=json.dumps(name if known else folder))
    family = FAMILIES.get(str(record.backbone.get("family")))
    if family is None or not family.usage:
        return [with_fedvitals]
    # Only published weights are found by their name without fedvitals.
    source = json.dumps(folder if known is None or known.packaged else name)
    horizon = record.settings.get("windows.horizon", 6)
    return [with_fedvitals, family.usage.format(backbone=source, horizon=horizon)]


def _privacy(record: RunRecord) -> str:
    if not record.private:
        return _paragraph(
            "No differential privacy: no bound is stated on what could be inferred from the "
            "adapter about a patient that it was trained on."
        )
    rows = [
        (
            plain(site),
            *(f"{one.numbers[key]:.4g}" if one.numbers else NOTHING for key in _PRIVACY_COLUMNS),
            plain(one.outside) or "nothing",
        )
        for site, one in site_guarantees(record).items()
    ]
    header = ("site", *_PRIVACY_COLUMNS.values(), "outside the guarantee")
    return "\n\n".join([*map(_paragraph, promise(record)), _table(header, rows)])


_PRIVACY_COLUMNS = {
    "epsilon": "epsilon",
    "epsilon-rdp": "epsilon by RDP",
    "delta": "delta",
    "noise-multiplier": "noise multiplier",
    "steps": "steps",
}


def _settings(record: RunRecord) -> str:
    hidden = ("data", "out", "backbone")  # paths of the coordinator's machine
    rows = [
        (f"`{key}`", plain(value)) for key, value in record.settings.items() if key not in hidden
    ]
    return _table(("setting", "value"), rows)


def _table(header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [header, ("---",) * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _item(text: str) -> str:
    return textwrap.fill(
        text, _WIDTH, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False
    )


def _paragraph(text: str) -> str:
    return textwrap.fill(text, _WIDTH, break_long_words=False, break_on_hyphens=False)
