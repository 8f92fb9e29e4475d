"""The folder of a pretrained model: weights, recipe, training log and card, written at once."""

from __future__ import annotations

import csv
import hashlib
import json
import platform
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

from torch import nn

from common.errors import UsageError
from simulation.pretraining.card import render_card
from simulation.pretraining.model_spec import NanoModel
from simulation.pretraining.recipe import PretrainingRecipe
from simulation.pretraining.train import LogRow

WEIGHTS_FILE = "model.safetensors"
RECIPE_FILE = "recipe.json"
LOG_FILE = "training_log.csv"
EVALUATION_FILE = "evaluation.json"
CARD_FILE = "README.md"

_DETERMINISM = (
    "One thread, torch's deterministic algorithms, one seed: the same recipe gives the same bytes "
    "on the same machine and library versions. Another processor may round differently."
)


def check_replaceable(out: Path) -> None:
    """Refuse a folder that holds something other than pretrained weights.

    Raises:
        UsageError: `out` is a file, or a folder with content but without a recipe.
    """
    if out.is_dir() and (not any(out.iterdir()) or (out / RECIPE_FILE).is_file()):
        return
    if out.exists():
        raise UsageError(
            f"{out} exists and holds no {RECIPE_FILE}, so it was not written by a pretraining; "
            "give another folder or remove it"
        )


def write_folder(
    out: Path, model: nn.Module, nano: NanoModel, recipe: PretrainingRecipe, log: list[LogRow]
) -> None:
    """Write the artefact beside `out` and move it there, in place of older weights."""
    check_replaceable(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-") as temporary:
        fresh = Path(temporary) / "fresh"
        fresh.mkdir()
        nano.save(model, fresh)
        # safetensors writes for its owner only; whoever installs the package has to read it.
        (fresh / WEIGHTS_FILE).chmod(0o644)
        _write_log(fresh / LOG_FILE, log)
        _write_recipe(fresh, model, nano, recipe, log)
        write_card(fresh, nano)
        if out.exists():
            out.rename(Path(temporary) / "replaced")
        fresh.rename(out)


def read_record(folder: Path) -> dict[str, Any]:
    """Read a folder's `recipe.json`.

    Raises:
        UsageError: there is none.
    """
    path = folder / RECIPE_FILE
    if not path.is_file():
        raise UsageError(f"{folder} holds no {RECIPE_FILE}; give a folder written by pretraining")
    record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return record


def write_card(folder: Path, nano: NanoModel) -> None:
    """Render the model card from what lies in the folder; figures only if they were measured."""
    record = read_record(folder)
    measured = folder / EVALUATION_FILE
    evaluation = json.loads(measured.read_text(encoding="utf-8")) if measured.exists() else None
    (folder / CARD_FILE).write_text(render_card(nano, record, evaluation), encoding="utf-8")


def write_json(path: Path, values: dict[str, Any]) -> None:
    """Write JSON that reads well and ends in a line break."""
    path.write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


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
        "sha256": {WEIGHTS_FILE: sha256(folder / WEIGHTS_FILE)},
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
    write_json(folder / RECIPE_FILE, record)
