"""A model as a forecaster: what `common.evaluation.evaluate` asks of it."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from common.backbones.base import Network
from common.data.windows import FloatArray, IntArray
from common.evaluation.evaluate import LEVELS


@dataclass(frozen=True)
class ModelForecaster:
    """A backbone, with or without an adapter, in eval mode on any device."""

    backbone: Network
    model: torch.nn.Module

    @torch.inference_mode()
    def forecast(self, context: FloatArray, vital: IntArray, horizon_steps: int) -> FloatArray:
        """Forecast windows [N, C] as quantiles [N, H, Q]; see `evaluate.Forecaster`."""
        device = next(self.model.parameters()).device
        batch = self.backbone.collate(context, None, vital)
        batch = {name: tensor.to(device) for name, tensor in batch.items()}
        quantiles = self.backbone.predict_quantiles(self.model, batch, horizon_steps, LEVELS)
        forecast: FloatArray = quantiles.float().cpu().numpy()
        return forecast
