"""N-HiTS and PatchTST, trained from random weights on the pooled data: no foundation model.

The networks are neuralforecast's own with its own sizes (Challu et al., arXiv 2201.12886; Nie et
al., arXiv 2211.14730). Windows, loss, optimiser and choice of the round are those of every
other arm, so that only the network and its initial weights differ. The networks cannot handle gaps;
those are filled by straight lines. Each context is standardised by its mean and its deviation, at
least the vital's scale floor, as in Chronos-Bolt.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch

from common.backbones.base import Batch, in_scale_units, window_pinball
from common.config.run_config import WindowConfig
from common.data.windows import FloatArray, IntArray
from common.errors import UsageError
from common.evaluation.evaluate import LEVELS
from simulation.experiments.models.statistical import without_gaps

NETWORKS = {"nhits": "NHITS", "patchtst": "PatchTST"}
"""neuralforecast's class of each."""


def build_network(name: str, windows: WindowConfig, seed: int) -> torch.nn.Module:
    """Return a network with random weights.

    Args:
        name: a key of `NETWORKS`.
        windows: lengths of context and horizon.
        seed: seed of the weights.

    Raises:
        UsageError: neuralforecast is not installed.
    """
    if find_spec("neuralforecast") is None:
        raise UsageError(
            "N-HiTS and PatchTST need the package neuralforecast; "
            'pip install "fedvitals[experiments]", or leave them out with --without'
        )
    models = import_module("neuralforecast.models")
    losses = import_module("neuralforecast.losses.pytorch")
    # It logs every seed that it sets.
    logging.getLogger("lightning_fabric.utilities.seed").setLevel(logging.ERROR)
    with torch.random.fork_rng(devices=[]):
        network: torch.nn.Module = getattr(models, NETWORKS[name])(
            h=windows.horizon,
            input_size=windows.context,
            loss=losses.MQLoss(quantiles=list(LEVELS)),
            random_seed=seed % 2**32,
        )
    return network


@dataclass(frozen=True)
class NeuralForecast:
    """Input, loss and forecast of these networks; see `common.backbones.base.Network`."""

    def collate(self, context: FloatArray, target: FloatArray | None, vital: IntArray) -> Batch:
        """Return `context` [B, C] without gaps and `target` [B, H] in units of the scale floor."""
        whole = np.stack([without_gaps(row) for row in context])
        return in_scale_units(whole, target, vital)

    def window_loss(self, model: torch.nn.Module, batch: Batch) -> torch.Tensor:
        """Return the pinball loss [B] over observed steps, in units of the context's deviation."""
        target = batch["target"]
        centre, deviation = _centre_and_deviation(batch["context"])
        forecast = _forecast(model, batch["context"])  # [B, H, Q]
        levels = torch.tensor(LEVELS, device=target.device)
        return window_pinball(forecast.movedim(2, 1), (target - centre) / deviation, levels)

    def predict_quantiles(
        self, model: torch.nn.Module, batch: Batch, horizon_steps: int, levels: Sequence[float]
    ) -> torch.Tensor:
        """Return quantiles [B, H, Q]; the levels must be those of the evaluation."""
        if tuple(levels) != LEVELS:
            raise UsageError(f"these networks forecast the levels {LEVELS}, got {tuple(levels)}")
        centre, deviation = _centre_and_deviation(batch["context"])
        ordered = _forecast(model, batch["context"]).sort(dim=2).values
        in_floors = ordered * deviation[:, :, None] + centre[:, :, None]
        in_unit = in_floors * batch["scale"][:, None, None] + batch["offset"][:, None, None]
        return in_unit[:, :horizon_steps]


def _centre_and_deviation(context: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return mean and deviation of each context, [B, 1] each; the deviation is at least 1."""
    deviation = context.std(dim=1, keepdim=True, correction=0).clamp(min=1.0)
    return context.mean(dim=1, keepdim=True), deviation


def _forecast(model: torch.nn.Module, context: torch.Tensor) -> torch.Tensor:
    """Return the network's quantiles [B, H, Q] of standardised values."""
    centre, deviation = _centre_and_deviation(context)
    values = ((context - centre) / deviation)[:, :, None]
    batch: dict[str, Any] = {"insample_y": values, "insample_mask": torch.ones_like(values)}
    batch |= dict.fromkeys(("futr_exog", "hist_exog", "stat_exog"))
    forecast: torch.Tensor = model(batch)
    return forecast
