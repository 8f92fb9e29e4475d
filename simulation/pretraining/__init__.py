"""Small backbones with published architectures, pretrained on generic synthetic series.

They replace the published weights where no model hub can be reached: in tests and demonstrations,
and to rehearse a federation in minutes. `NANO_MODELS` lists them; `pretrain` makes one anew.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

from common.backbones.weights_store import PACKAGED
from common.names import check_name
from simulation.pretraining.export import check_weights_folder, write_folder
from simulation.pretraining.model_spec import NanoModel
from simulation.pretraining.models.chronos2_nano import CHRONOS2_NANO
from simulation.pretraining.models.chronos_bolt_nano import CHRONOS_BOLT_NANO
from simulation.pretraining.models.chronos_t5_nano import CHRONOS_T5_NANO
from simulation.pretraining.models.lag_llama_nano import LAG_LLAMA_NANO
from simulation.pretraining.models.moirai_nano import MOIRAI_NANO
from simulation.pretraining.train import OnStep, train_model

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
    """Return the folder of a model's shipped weights."""
    return PACKAGED / name


def pretrain(
    name: str,
    out: Path,
    *,
    steps: int | None = None,
    seed: int | None = None,
    progress: OnStep | None = None,
) -> None:
    """Pretrain a nano model on synthetic series and write its folder.

    Args:
        name: a key of `NANO_MODELS`.
        out: the folder to write; older weights there are replaced atomically at the end.
        steps: optimiser steps; None = the recipe's.
        seed: seed; None = the recipe's.
        progress: called after every step with the step, the number of steps and the loss.

    Raises:
        UsageError: the name, the steps or the seed is invalid, or `out` holds other files.
    """
    nano = nano_model(name)
    recipe = dataclasses.replace(
        nano.recipe,
        steps=nano.recipe.steps if steps is None else steps,
        seed=nano.recipe.seed if seed is None else seed,
    )
    check_weights_folder(out)  # before half an hour of training
    model, log = train_model(recipe, nano.build, nano.window_loss, progress)
    write_folder(out, model, nano, recipe, log)
