"""Model card: README.md of the released PEFT folder, with the metadata that model hubs read.

Names and cohort rules come from the sites and are escaped, so none of it is read as Markdown.
"""

from __future__ import annotations

import json
import textwrap
from typing import Any

from common.backbones.catalog import CATALOG, FAMILIES
from common.config.tasks import DEFAULT_METRICS, first_metrics
from common.evaluation.metrics import METRICS
from common.reporting.markdown import escape_markdown, table_in_markdown
from common.reporting.phrasing import (
    MODELS,
    NOTHING,
    SPLIT_WORDS,
    VITAL_LABELS,
    VITAL_UNITS,
    bounds,
    count_or_dash,
    listed,
    number,
    percent,
)
from server.report.clinical_text import (
    RANGE_ANNOUNCED,
    mean_difference,
    range_in_words,
    vital_errors,
)
from server.report.privacy import guarantee_paragraphs, site_guarantees
from server.runs.run_reader import RunRecord

_WIDTH = 100

_PURPOSE = """\
A LoRA adapter for the frozen forecasting model **{backbone}**, trained on the vital signs of
intensive-care patients by {sites} sites that shared adapters and never records. It is the
aggregate of the sites' adapters after round {round} of {rounds}. It forecasts {horizon} steps of
{minutes} min from the {context} before them, for: {vitals}."""

_LIMITS = """\
- **Not for clinical use.** This is research software: not a medical device, not validated
  prospectively, and not a basis for any decision about a patient.
- It was trained on patients selected by the rule above, at the sites above. Other hospitals, wards,
  ages or charting habits may differ, and the adapter may then forecast worse than the backbone
  without it: evaluate it on your own patients first (`python -m server evaluate`).
- Intervals are 95 % bootstrap intervals over patients; they do not include the variation between
  training runs with other seeds.
- A forecast shows what usually follows, treatment included. It does not show what would happen
  without treatment.
- An adapter can leak information about the data it was trained on; the Privacy section gives the
  bound, if there is one."""

_LICENCE = """\
The coordinator who publishes this adapter chooses its licence and states it here and in the
metadata; until then it is `other`: all rights reserved. The data-use agreements of the sites and
the licence of the backbone may restrict that choice."""

_WITH_FEDVITALS = """\
With fedvitals, the model is as evaluated. Units and ranges are checked, quantiles stay within the
vital sign's valid range, and where too little is observed there is a reason in place of a number:

```python
import pandas as pd

from common.forecasting.patient_forecaster import load_forecaster

forecaster = load_forecaster({arguments})  # this folder
history = pd.read_csv("vitals.csv")  # patient_id, step, and heart_rate, sbp ... as in the table
print(forecaster.forecast(history).table)
```"""


def model_card(record: RunRecord) -> str:
    """Return the card as Markdown with YAML metadata; it is the same for the same run."""
    sections = [
        _metadata(record),
        f"# Federated LoRA adapter for {escape_markdown(record.backbone_name)}",
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


def _metadata(record: RunRecord) -> str:
    # Every JSON string is a valid YAML string.
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
            backbone=escape_markdown(record.backbone_name),
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
    family = escape_markdown(backbone.get("family", ""))
    rows = [
        ("backbone", f"{escape_markdown(record.backbone_name)} ({family})"),
        ("backbone digest (SHA-256)", f"`{adapter.backbone_digest}`"),
        ("backbone parameters", f"{int(backbone.get('parameters', 0)):,}, frozen"),
        ("adapter parameters", f"{adapter.num_parameters:,} in {len(adapter.modules)} layers"),
        ("rank, alpha", f"{adapter.rank}, {adapter.alpha:g}"),
        ("adapter digest (SHA-256)", f"`{adapter.digest()}`"),
    ]
    return table_in_markdown(("", ""), rows)


def _sites(record: RunRecord) -> str:
    rows = [
        (
            escape_markdown(name),
            count_or_dash(site.get("patients")),
            count_or_dash(site.get("windows")),
            escape_markdown(site["source"]),
            escape_markdown(site["rule"]),
        )
        for name, site in record.sites.items()
    ]
    header = ("site", "training patients", "training windows", "source", "cohort rule")
    return table_in_markdown(header, rows)


def _results(record: RunRecord) -> str:
    if record.evaluation is None:
        return _paragraph(_validation_only(record))
    evaluation = record.evaluation
    pooled = evaluation["pooled"]
    first = first_metrics(evaluation.get("settings", {}))
    usual = first == DEFAULT_METRICS
    tabled, stated = (_WQL, ("wql", "mae")) if usual else (first, first)
    shown = "Weighted quantile loss (WQL)" if usual else listed(METRICS[m].label for m in first)
    mean = pooled["models"]["adapter"]["mean"]
    intro = (
        f"On {mean['patients']:,} {SPLIT_WORDS[evaluation['split']]} ({mean['windows']:,} windows, "
        f"in the mean over {len(pooled['models']['adapter']['vitals'])} vital signs): "
        f"{'; '.join(mean_difference(evaluation, metric) for metric in stated)}."
    )
    errors = [f"- {sentence}" for sentence in vital_errors(evaluation)]
    calibration = pooled.get("calibration")
    sentences = range_in_words(calibration["adapter"]) if calibration else []
    ranges = f"{RANGE_ANNOUNCED} {' '.join(sentences)}" if sentences else ""
    parts = [
        _paragraph(intro),
        *(_results_table(pooled, metric) for metric in tabled),
        _paragraph(_READING.format(metrics=shown)),
        "\n".join(map(_item, errors)),
        _paragraph(ranges),
    ]
    return "\n\n".join(filter(None, parts))


def _validation_only(record: RunRecord) -> str:
    curve = dict(record.validation_curve())
    first, best = curve.get(0), curve.get(record.best_round)
    if first is None or best is None:
        return "Not evaluated, and no site had validation patients, so the accuracy is unknown."
    return (
        f"Not yet evaluated on test patients. On the sites' validation patients WQL was "
        f"{number(first, 4)} before training and {number(best, 4)} after round "
        f"{record.best_round}. That round was chosen by this value, which is therefore optimistic "
        "and has no interval."
    )


_READING = """\
{metrics}, lower is better. The last column is the relative difference of the
adapter to the backbone without it, with its interval. All metrics, per site and vital, are in the
run's `evaluation.json` and `report.html`. Mean absolute errors in the vitals' own units, over all
forecast steps:"""
_WQL = ("wql",)
"""Metrics of the card where the run has no task."""


def _results_table(pooled: dict[str, Any], metric: str) -> str:
    models, differences = pooled["models"], pooled["differences"]["zero_shot"]
    order = [model for model in MODELS if model in models]
    digits = 4 if metric == "wql" else 2
    rows = [
        (
            f"{VITAL_LABELS[vital]}{_unit(metric, vital)}",
            *(number(models[model]["vitals"][vital][metric], digits) for model in order),
            _difference(differences["vitals"][vital][metric]["relative"]),
        )
        for vital in models["adapter"]["vitals"]
    ]
    means = (
        NOTHING if METRICS[metric].has_dimension else number(models[model]["mean"][metric], digits)
        for model in order
    )
    rows.append(("**mean**", *means, _difference(differences["mean"][metric]["relative"])))
    name = "vital sign" if metric == "wql" else f"{METRICS[metric].label} by vital sign"
    header = (name, *(MODELS[model] for model in order), "adapter to zero-shot")
    return table_in_markdown(header, rows)


def _unit(metric: str, vital: str) -> str:
    unit = METRICS[metric].unit.replace("vital", VITAL_UNITS[vital])
    return f", {unit}" if unit else ""


def _difference(interval: dict[str, Any]) -> str:
    return f"{percent(interval['estimate'])} {bounds(interval)}".rstrip()


def _snippets(record: RunRecord) -> list[str]:
    name = record.backbone_name
    known, folder = CATALOG.get(name), f"path/to/{name}"
    arguments = '"adapter"' if known else f'"adapter", backbone={json.dumps(folder)}'
    with_fedvitals = _WITH_FEDVITALS.format(arguments=arguments)
    family = FAMILIES.get(str(record.backbone.get("family")))
    if family is None or not family.usage:
        return [with_fedvitals]
    # Without fedvitals only published weights are found by name.
    source = json.dumps(folder if known is None or known.packaged else name)
    horizon = record.settings.get("windows.horizon", 6)
    return [with_fedvitals, family.usage.format(backbone=source, horizon=horizon)]


def _privacy(record: RunRecord) -> str:
    if not record.private:
        return _paragraph(
            "No differential privacy: there is no bound on what could be inferred from the "
            "adapter about a patient it was trained on."
        )
    rows = [
        (
            escape_markdown(site),
            *(f"{one.numbers[key]:.4g}" if one.numbers else NOTHING for key in _PRIVACY_COLUMNS),
            escape_markdown(one.unprotected_outputs) or "nothing",
        )
        for site, one in site_guarantees(record).items()
    ]
    header = ("site", *_PRIVACY_COLUMNS.values(), "outside the guarantee")
    return "\n\n".join(
        [*map(_paragraph, guarantee_paragraphs(record)), table_in_markdown(header, rows)]
    )


_PRIVACY_COLUMNS = {
    "epsilon": "epsilon",
    "epsilon-rdp": "epsilon by RDP",
    "delta": "delta",
    "noise-multiplier": "noise multiplier",
    "steps": "steps",
}


def _settings(record: RunRecord) -> str:
    hidden = ("data", "out", "backbone")  # may be paths of the coordinator's machine
    rows = [
        (f"`{key}`", escape_markdown(value))
        for key, value in record.settings.items()
        if key not in hidden
    ]
    return table_in_markdown(("setting", "value"), rows)


def _item(text: str) -> str:
    return textwrap.fill(
        text, _WIDTH, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False
    )


def _paragraph(text: str) -> str:
    return textwrap.fill(text, _WIDTH, break_long_words=False, break_on_hyphens=False)
