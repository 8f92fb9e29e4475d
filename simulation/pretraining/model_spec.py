"""What one nano model is: the parts that its family brings to the shared training loop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from torch import Tensor, nn

from simulation.pretraining.recipe import PretrainingRecipe
from simulation.pretraining.train import Builder, WindowLoss


@dataclass(frozen=True)
class NanoModel:
    """A model that can be pretrained here.

    Attributes:
        recipe: the run that made, or is to make, the shipped weights.
        build: makes the network with fresh weights.
        window_loss: the loss of each window of a batch.
        save: writes `config.json` and `model.safetensors` into an existing folder.
        predict_quantiles: ``(folder, context [n, context], horizon) -> [n, horizon, 9]``, with the
            library that users of the weights load them with.
        packages: distributions whose version decides the weights' bytes.
        architecture: one paragraph of the card.
        loading: lines of Python for the card; `FOLDER` stands for the weights.
        limits: lines of the card that hold for this family only.
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
    """Write `config.json` and `model.safetensors` of a model of transformers, and nothing else."""
    from transformers.utils import logging

    bars = logging.is_progress_bar_enabled()
    # One small file: a bar would only break the command's own.
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        cast(Any, model).save_pretrained(folder)
    finally:
        if bars:
            logging.enable_progress_bar()  # type: ignore[no-untyped-call]
    # The pipelines say themselves how to generate, where they do.
    (folder / "generation_config.json").unlink(missing_ok=True)
