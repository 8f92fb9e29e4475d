"""Output folder of a pretrained model: weights, recipe, training log and model card."""

from __future__ import annotations

import csv
import json
import platform
import textwrap
from importlib.metadata import version
from pathlib import Path
from typing import Any

from torch import nn

from common.errors import UsageError
from common.files.atomic_io import atomic_folder, write_text
from common.files.hashing import file_sha256
from common.files.output_folder import check_replaceable
from common.reporting.markdown import table_in_markdown
from simulation.pretraining.model_spec import NanoModel
from simulation.pretraining.recipe import PretrainingRecipe
from simulation.pretraining.series.series import SERIES_FAMILIES
from simulation.pretraining.train import LogRow

_WEIGHTS_FILE = "model.safetensors"
_RECIPE_FILE = "recipe.json"
_LOG_FILE = "training_log.csv"
ZERO_SHOT_FILE = "evaluation.json"
_CARD_FILE = "README.md"

_DETERMINISM = (
    "One thread, torch's deterministic algorithms, one seed: the same recipe gives the same bytes "
    "on the same machine and library versions. Another processor may round differently."
)

_WIDTH = 100
"""Width of the card's paragraphs."""

_HEAD = """\
---
license: apache-2.0
library_name: {library}
pipeline_tag: time-series-forecasting
tags:
- time-series
- forecasting
- synthetic-data
---"""

_PURPOSE = """\
{parameters:,} parameters, float32, pretrained on synthetic series only. Made for fedvitals: small
enough to lie in the repository, so that a federation can be rehearsed without a model hub. It
stands in for the published weights and does not reach their quality."""

_EFFECTS = """\
{mixup:.0%} of the windows are mixtures of two or three series (TSMixup). Then come generic effects
of measurement, each on a share of the windows: {effects}. Sources: KernelSynth and TSMixup, Ansari
et al., "Chronos: Learning the Language of Time Series", arXiv 2403.07815."""

_NO_PRIOR = """\
**No clinical data, and no prior made for vital signs**: no family, rate or level was modelled on
any clinical record, and training reads none. The published models have no such prior either."""

_SCHEDULE = """\
{steps:,} steps of {batch_size} windows, AdamW at {learning_rate:g} with linear warm-up and cosine
decay, context of {min_context} to {max_context} steps, {horizon} steps ahead, seed {seed};
{minutes:.0f} minutes on one core. Loss on held-out synthetic windows: {held_out:.4f}
(`training_log.csv`). Everything else, with the versions of the libraries, is in `recipe.json`."""

_EVALUATION = """\
Zero-shot on real vital signs, **reporting only**: training did not see these records, and no
weights were selected by them. PhysioNet/Computing in Cardiology Challenge 2019, hospital B, stays
of even number (CC BY 4.0, doi 10.13026/v64v-d857): hourly values, {context} h -> {horizon} h,
{stays:,} stays, {windows:,} windows with at least {min_observed} observed values in the context and
one in the target. Errors are parts of the last value's (below 1 is better). The baselines'
quantiles are those of a Gaussian random walk and of simple exponential smoothing (weight
{alpha:g}); pinball loss over the levels .1 to .9. The model is used as it is, without a floor
under its scale."""

_NOT_MEASURED = """\
Not measured for these weights. `python -m simulation.pretraining.zero_shot FOLDER ARCHIVE` compares
them with the last value on the PhysioNet Challenge 2019 and adds the figures here."""


def write_folder(
    out: Path, model: nn.Module, nano: NanoModel, recipe: PretrainingRecipe, log: list[LogRow]
) -> None:
    """Write the folder beside `out` and move it there, replacing older weights."""
    check_weights_folder(out)
    with atomic_folder(out) as fresh:
        nano.save(model, fresh)
        # safetensors makes the file readable by its owner only.
        (fresh / _WEIGHTS_FILE).chmod(0o644)
        _write_log(fresh / _LOG_FILE, log)
        _write_recipe(fresh, model, nano, recipe, log)
        write_card(fresh, nano)


def check_weights_folder(out: Path) -> None:
    """Refuse to overwrite anything but pretrained weights.

    Raises:
        UsageError: `out` is a file, a folder with content but without a recipe, or cannot be
            written.
    """
    check_replaceable(out)
    if out.is_dir() and (not any(out.iterdir()) or (out / _RECIPE_FILE).is_file()):
        return
    if out.exists():
        raise UsageError(
            f"{out} exists and holds no {_RECIPE_FILE}, so it was not written by a pretraining; "
            "give another folder or remove it"
        )


def _write_log(path: Path, log: list[LogRow]) -> None:
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["step", "loss", "lr", "held_out_synthetic_loss", "seconds"])
        for row in log:
            writer.writerow(
                [
                    row.step,
                    f"{row.loss:.6f}",
                    f"{row.learning_rate:.4e}",
                    f"{row.held_out_loss:.6f}",
                    f"{row.seconds:.1f}",
                ]
            )


def _write_recipe(
    folder: Path, model: nn.Module, nano: NanoModel, recipe: PretrainingRecipe, log: list[LogRow]
) -> None:
    command = f"python -m simulation pretrain {recipe.name} --steps {recipe.steps}"
    record = {
        "name": recipe.name,
        "sha256": {_WEIGHTS_FILE: file_sha256(folder / _WEIGHTS_FILE)},
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "series_drawn": recipe.series_count,
        "held_out_synthetic_loss": round(log[-1].held_out_loss, 6),
        "seconds": round(log[-1].seconds, 1),
        "command": f"{command} --seed {recipe.seed}",
        "determinism": _DETERMINISM,
        "versions": {
            "python": platform.python_version(),
            **{package: version(package) for package in nano.packages},
        },
        "processor_family": platform.machine(),
        "recipe": recipe.to_json(),
    }
    write_json(folder / _RECIPE_FILE, record)


def write_json(path: Path, values: dict[str, Any]) -> None:
    """Write indented JSON that ends in a line break."""
    write_text(path, json.dumps(values, indent=2, ensure_ascii=False) + "\n")


def write_card(folder: Path, nano: NanoModel) -> None:
    """Write the model card from the files in the folder, with figures if they were measured."""
    record = read_recipe_record(folder)
    measured = folder / ZERO_SHOT_FILE
    evaluation = json.loads(measured.read_text(encoding="utf-8")) if measured.exists() else None
    write_text(folder / _CARD_FILE, render_card(nano, record, evaluation))


def read_recipe_record(folder: Path) -> dict[str, Any]:
    """Read a folder's `recipe.json`.

    Raises:
        UsageError: the folder has none.
    """
    path = folder / _RECIPE_FILE
    if not path.is_file():
        raise UsageError(f"{folder} holds no {_RECIPE_FILE}; give a folder written by pretraining")
    record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return record


def render_card(nano: NanoModel, record: dict[str, Any], evaluation: dict[str, Any] | None) -> str:
    """Return the model card.

    Args:
        nano: the model, with the texts of its family.
        record: content of `recipe.json`.
        evaluation: content of `evaluation.json`; None if nothing was measured.

    Returns:
        Markdown with YAML metadata.
    """
    recipe = record["recipe"]
    sections = [
        _HEAD.format(library=nano.packages[-1]),
        f"# {record['name']}",
        _paragraph(nano.architecture),
        _paragraph(_PURPOSE.format(**record)),
        *_data(record),
        "## Recipe",
        _paragraph(
            _SCHEDULE.format(
                minutes=record["seconds"] / 60, held_out=record["held_out_synthetic_loss"], **recipe
            )
        ),
        f"To remake it, from the repository:\n\n```\n{record['command']}\n```",
        _paragraph(record["determinism"]),
        f"SHA-256 of `model.safetensors`:\n`{record['sha256']['model.safetensors']}`",
        f"## Loading\n\n```python\n{nano.loading}\n```",
        "## Evaluation",
        *([_paragraph(_NOT_MEASURED)] if evaluation is None else _figures(evaluation)),
        *_limits(nano, recipe),
    ]
    return "\n\n".join(sections) + "\n"


def _data(record: dict[str, Any]) -> list[str]:
    recipe = record["recipe"]
    effects = ", ".join(
        f"{name.replace('_', ' ')} {share:.0%}" for name, share in recipe["corruption"].items()
    )
    return [
        "## Data",
        f"Synthetic and generic. {record['series_drawn']:,} series of {recipe['series_length']} "
        "steps, drawn from a seed:",
        _families(recipe["family_mix"]),
        _paragraph(_EFFECTS.format(mixup=recipe["mixup_probability"], effects=effects)),
        _paragraph(_NO_PRIOR),
    ]


def _families(mix: dict[str, float]) -> str:
    total = sum(mix.values())
    rows = []
    for name, share in mix.items():
        summary = " ".join((SERIES_FAMILIES[name].__doc__ or "").split("\n\n")[0].split())
        rows.append((name.replace("_", " "), f"{share / total:.0%}", summary))
    return table_in_markdown(("family", "share", "what it is"), rows)


def _figures(evaluation: dict[str, Any]) -> list[str]:
    zero_shot, ewma = evaluation["relative"]["zero_shot"], evaluation["relative"]["ewma"]
    rows = []
    for vital, model in zero_shot.items():
        scores = (model["mae"], model["pinball"], ewma[vital]["mae"], ewma[vital]["pinball"])
        rows.append((vital, *(f"{score:.3f}" for score in scores)))
    header = ("vital", "zero-shot MAE", "zero-shot pinball", "EWMA MAE", "EWMA pinball")
    return [_paragraph(_EVALUATION.format(**evaluation)), table_in_markdown(header, rows)]


def _limits(nano: NanoModel, recipe: dict[str, Any]) -> list[str]:
    limits = [
        "Not for clinical use: a research artefact that was not validated for any decision.",
        f"Context of at most {recipe['max_context']} steps; trained for {recipe['horizon']} steps "
        "ahead.",
        *nano.limits,
    ]
    return ["## Limits", "\n".join(_paragraph(f"- {limit}", indent="  ") for limit in limits)]


def _paragraph(text: str, indent: str = "") -> str:
    return textwrap.fill(
        text, _WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )
