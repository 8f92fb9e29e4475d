"""Small backbones with published architectures, pretrained on generic synthetic series.

They stand in for the published weights where no model hub can be reached: in tests, in
demonstrations, and wherever a federation is to be rehearsed in minutes.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import common
from common.names import check_name
from simulation.pretraining.export import check_replaceable, write_folder
from simulation.pretraining.model_spec import NanoModel
from simulation.pretraining.models.chronos2_nano import CHRONOS2_NANO
from simulation.pretraining.models.chronos_bolt_nano import CHRONOS_BOLT_NANO
from simulation.pretraining.models.chronos_t5_nano import CHRONOS_T5_NANO
from simulation.pretraining.models.lag_llama_nano import LAG_LLAMA_NANO
from simulation.pretraining.models.moirai_nano import MOIRAI_NANO
from simulation.pretraining.train import Progress
from simulation.pretraining.train import train as train_model

__all__ = ["NANO_MODELS", "NanoModel", "default_folder", "nano_model", "pretrain"]

NANO_MODELS: dict[str, NanoModel] = {
    nano.recipe.name: nano
    for nano in (
        CHRONOS2_NANO,
        CHRONOS_BOLT_NANO,
        CHRONOS_T5_NANO,
        LAG_LLAMA_NANO,
        MOIRAI_NANO,
    )
}
"""Every model that can be pretrained here, by name."""


def nano_model(name: str) -> NanoModel:
    """Look up a model.

    Raises:
        UsageError: the name is unknown; the message names the nearest and lists all.
    """
    return NANO_MODELS[check_name("nano backbone", name, NANO_MODELS)]


def default_folder(name: str) -> Path:
    """Return where the shipped weights of a model lie."""
    return Path(common.__path__[0]) / "backbones" / "weights" / name


def pretrain(
    name: str,
    out: Path,
    *,
    steps: int | None = None,
    seed: int | None = None,
    progress: Progress | None = None,
) -> None:
    """Pretrain a nano model on synthetic series and write its folder.

    Args:
        name: a key of `NANO_MODELS`.
        out: the folder to write; older weights there are replaced at the end, all at once.
        steps: optimiser steps; the recipe's when None.
        seed: the recipe's when None.
        progress: called after every step with the step, the number of steps and the loss.

    Raises:
        UsageError: the name, the steps or the seed are impossible, or `out` holds other things.
    """
    nano = nano_model(name)
    recipe = dataclasses.replace(
        nano.recipe,
        steps=nano.recipe.steps if steps is None else steps,
        seed=nano.recipe.seed if seed is None else seed,
    )
    check_replaceable(out)  # before half an hour of training, not after
    model, log = train_model(recipe, nano.build, nano.window_loss, progress)
    write_folder(out, model, nano, recipe, log)
