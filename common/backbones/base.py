"""What every family of foundation models offers, and the digest that names its frozen weights.

A model as a forecaster: what `common.evaluation.evaluate` asks of it.

The pinball loss of each window, which the families that forecast quantiles are trained by.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from common.data.site_table import VITALS
from common.data.windows import FloatArray, IntArray
from common.evaluation.evaluate import LEVELS


def window_pinball(
    forecast: torch.Tensor, target: torch.Tensor, levels: torch.Tensor
) -> torch.Tensor:
    """Return each window's own mean over its observed steps and all levels, ``[B]``.

    Args:
        forecast: ``[B, Q, H]``.
        target: ``[B, H]``, NaN = not observed; a window without observed steps costs 0.
        levels: ``[Q]``, of the quantiles.

    Returns:
        Twice the pinball loss, which at level .5 is the absolute error.
    """
    observed = ~torch.isnan(target)
    error = torch.where(observed, target, 0.0)[:, None] - forecast
    level = levels[:, None]
    pinball = 2.0 * torch.maximum(level * error, (level - 1.0) * error).mean(dim=1)  # [B, H]
    count = observed.sum(dim=1).clamp(min=1)
    return torch.where(observed, pinball, 0.0).sum(dim=1) / count


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


Batch = dict[str, torch.Tensor]
"""Tensors by name, each with the windows of the batch first."""


class Network(Protocol):
    """What training and forecasting ask of a kind of model; it holds no weights of its own.

    A model is a plain `torch.nn.Module`; with a LoRA adapter on it, it is PEFT's wrapper of that
    module, and every method takes either.
    """

    def collate(self, context: FloatArray, target: FloatArray | None, vital: IntArray) -> Batch:
        """Turn windows into the model's tensors on the CPU, without looking across windows.

        Args:
            context: ``[B, C]`` in the vital's unit, NaN = not observed.
            target: ``[B, H]`` likewise, or None for a forecast.
            vital: ``[B]``, index into `common.data.site_table.VITALS`.
        """
        ...

    def window_loss(self, model: torch.nn.Module, batch: Batch) -> torch.Tensor:
        """Return each window's own loss, ``[B]``, with no normalisation across the batch.

        Privacy per patient rests on this: a window's loss and gradient are the same whichever
        windows share its batch.
        """
        ...

    def predict_quantiles(
        self, model: torch.nn.Module, batch: Batch, horizon_steps: int, levels: Sequence[float]
    ) -> torch.Tensor:
        """Return forecast quantiles ``[B, H, Q]`` in the vital's unit, rising along Q."""
        ...


class Backbone(Network, Protocol):
    """One family of foundation models, e.g. Chronos-Bolt."""

    family: str

    def build(self, weights: Path) -> torch.nn.Module:
        """Load a model from a folder in the published layout, frozen and in eval mode.

        Raises:
            BackboneError: where the folder is not one of this family or is damaged.
        """
        ...

    def facts(self, model: torch.nn.Module) -> dict[str, str]:
        """Say in words what is this family's own: `loss`, `input` and `forecast`."""
        ...

    def lora_targets(self, scope: str) -> str:
        """Return the regular expression (full match) of the projections that take an adapter.

        Projections whose gradient is zero by construction are left out: they would train nothing
        and, under differential privacy, carry nothing but noise.
        """
        ...


def offset_and_scale(vital: IntArray) -> tuple[FloatArray, FloatArray]:
    """Return each window's clinical offset and scale floor, [B] both, in the vital's unit."""
    table = np.array([(v.clinical_offset, v.scale_floor) for v in VITALS], np.float32)
    return table[vital, 0], table[vital, 1]


def in_scale_units(context: FloatArray, target: FloatArray | None, vital: IntArray) -> Batch:
    """Return `context` [B, C] and `target` [B, H], if any, as (x - offset) / scale of their vital.

    `offset` and `scale`, [B] both, go with them: by them a forecast comes back to the vital's unit.
    """
    offset, scale = offset_and_scale(vital)
    values = {
        "context": (context - offset[:, None]) / scale[:, None],
        "offset": offset,
        "scale": scale,
    }
    if target is not None:
        values["target"] = (target - offset[:, None]) / scale[:, None]
    return {name: torch.from_numpy(array.astype(np.float32)) for name, array in values.items()}


def plain_model(model: torch.nn.Module) -> Any:
    """Return the family's own network, taken out of PEFT's wrapper if it is in one."""
    inner = getattr(model, "get_base_model", None)
    return inner() if inner is not None else model


def weights_digest(model: torch.nn.Module) -> str:
    """Return the SHA-256 over names, types, shapes and bytes of the frozen tensors, by name.

    Averaging adapters means something only on the very same base: sites compare this digest. It is
    the same with and without an adapter on the model. Tied tensors count under each name.
    """
    digest = sha256()
    frozen = {
        name.removeprefix("base_model.model.").replace(".base_layer.", "."): tensor
        for name, tensor in model.state_dict().items()
        if ".lora_" not in name
    }
    for name, tensor in sorted(frozen.items()):
        plain = tensor.detach().cpu().contiguous()
        digest.update(f"{name} {plain.dtype} {tuple(plain.shape)}\n".encode())
        # Through a byte view, since numpy has no bfloat16.
        digest.update(plain.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
