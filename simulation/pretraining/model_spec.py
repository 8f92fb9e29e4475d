"""Specification of a nano model, and constants that the families share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from torch import Tensor, nn

from simulation.pretraining.recipe import PretrainingRecipe
from simulation.pretraining.train import Builder, WindowLoss

TARGET_BOUND = 20.0
"""Largest target of a loss, in units of the context's deviation.

A nearly constant context has a deviation of almost 0; without the bound one such window would
dominate the mean.
"""

CHRONOS_PACKAGES = ("numpy", "torch", "transformers", "safetensors", "chronos-forecasting")
"""`NanoModel.packages` of the Chronos families."""

CONSTANT_CONTEXT_LIMIT = (
    "A constant context has a deviation of zero, and the forecast then an interval of almost "
    "nothing: put a floor under the scale."
)
CROSSING_LIMIT = "Quantiles can cross: sort them."


@dataclass(frozen=True)
class NanoModel:
    """A small model that can be pretrained here.

    Attributes:
        recipe: the recipe of the shipped weights.
        build: returns the network with random weights.
        window_loss: returns the loss of each window of a batch.
        save: writes `config.json` and `model.safetensors` into an existing folder.
        predict_quantiles: ``(folder, context [n, context], horizon) -> [n, horizon, 9]``, with the
            library that users of the weights load them with.
        packages: distributions whose versions the bytes of the weights depend on.
        architecture: paragraph of the card.
        loading: Python code for the card; `FOLDER` stands for the folder of the weights.
        limits: limits of this family, for the card.
    """

    recipe: PretrainingRecipe
    build: Builder
    window_loss: WindowLoss
    save: Callable[[nn.Module, Path], None]
    predict_quantiles: Callable[[Path, Tensor, int], Tensor]
    packages: tuple[str, ...]
    architecture: str
    loading: str
    limits: tuple[str, ...] = ()


def save_pretrained(model: nn.Module, folder: Path) -> None:
    """Write only `config.json` and `model.safetensors` of a model of transformers."""
    from transformers.utils import logging

    bars = logging.is_progress_bar_enabled()
    # Its progress bar would break the command's own.
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        cast(Any, model).save_pretrained(folder)
    finally:
        if bars:
            logging.enable_progress_bar()  # type: ignore[no-untyped-call]
    # The pipelines set generation options themselves.
    (folder / "generation_config.json").unlink(missing_ok=True)
