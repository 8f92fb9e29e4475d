"""The interface of a backbone family, and helpers that the families share.

To add a family:

1. Write a class with the `Backbone` protocol in a module (or folder) of its own. The loss of a
   window must not depend on the other windows of the batch: privacy per patient rests on it. The
   helpers below standardise inputs (`in_scale_units`) and give the quantile loss
   (`window_pinball`); `common.backbones.weights_folder` reads the published layout.
2. Add an entry to `FAMILIES` and its models to `_MODELS` in `common.backbones.catalog`.
3. Add a small model of the real architecture: a recipe in `simulation.pretraining.models`, listed
   in `simulation.pretraining.NANO_MODELS`, and its weights, under 4 MB, in `weights`.

`tests/common/backbones/test_contract.py` then tests the family without a further line.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from common.data.vitals import VITALS
from common.data.windows import FloatArray, IntArray
from common.evaluation.evaluate import LEVELS

Batch = dict[str, torch.Tensor]
"""Tensors by name; the first axis of each is the windows of the batch."""


class Network(Protocol):
    """Input, loss and forecast of a kind of model; it holds no weights.

    A model is a plain `torch.nn.Module`, or PEFT's wrapper of one with a LoRA adapter; every method
    takes either.
    """

    def collate(self, context: FloatArray, target: FloatArray | None, vital: IntArray) -> Batch:
        """Turn windows into the model's input tensors on the CPU, each window by itself.

        Args:
            context: ``[B, C]`` in the vital's unit, NaN = not observed.
            target: ``[B, H]`` likewise, or None for a forecast.
            vital: ``[B]``, index into `common.data.vitals.VITALS`.
        """
        ...

    def window_loss(self, model: torch.nn.Module, batch: Batch) -> torch.Tensor:
        """Return the loss of each window, ``[B]``, without normalisation across the batch.

        A window's loss and gradient are the same whichever windows share its batch.
        """
        ...

    def predict_quantiles(
        self, model: torch.nn.Module, batch: Batch, horizon_steps: int, levels: Sequence[float]
    ) -> torch.Tensor:
        """Return forecast quantiles ``[B, H, Q]`` in the vital's unit, rising along Q."""
        ...


class Backbone(Network, Protocol):
    """A family of foundation models, e.g. Chronos-Bolt.

    Attributes:
        family: key of `common.backbones.catalog.FAMILIES`.
        attention: regular expression (full match) of the attention projections that take an
            adapter. Projections whose gradient is zero by construction are left out: they would
            train nothing and, under differential privacy, add only noise.
        feed_forward: likewise, of the feed-forward projections.
    """

    family: str
    attention: str
    feed_forward: str

    def build(self, weights: Path) -> torch.nn.Module:
        """Load a model from a folder in the published layout, frozen and in eval mode.

        Raises:
            BackboneError: the folder is not of this family, or is damaged.
        """
        ...

    def facts(self, model: torch.nn.Module) -> dict[str, str]:
        """Describe the family's `loss`, `input` and `forecast` in words."""
        ...


@dataclass(frozen=True)
class ModelForecaster:
    """A model, with or without an adapter, as a forecaster for `common.evaluation.evaluate`.

    It takes windows of valid site tables, checks nothing and bounds nothing: it forecasts a context
    without a value, too. To forecast patients use
    `common.forecasting.patient_forecaster.load_forecaster`.
    """

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


def plain_model(model: torch.nn.Module) -> Any:
    """Return the family's own network, without PEFT's wrapper if it has one."""
    inner = getattr(model, "get_base_model", None)
    return inner() if inner is not None else model


def weights_digest(model: torch.nn.Module) -> str:
    """Return the SHA-256 over names, types, shapes and bytes of the frozen tensors, by name.

    Adapters can only be averaged on the same base, so sites compare this digest. An adapter on the
    model does not change it. Tied tensors count under each name.
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


def in_scale_units(context: FloatArray, target: FloatArray | None, vital: IntArray) -> Batch:
    """Standardise windows by the clinical offset and the scale floor of their vital.

    Args:
        context: ``[B, C]`` in the vital's unit.
        target: ``[B, H]`` likewise, or None.
        vital: ``[B]``, index into `VITALS`.

    Returns:
        `context` and `target` as (x - offset) / scale, and `offset` and `scale`, ``[B]`` each, to
        convert a forecast back.
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


def offset_and_scale(vital: IntArray) -> tuple[FloatArray, FloatArray]:
    """Return each window's clinical offset and scale floor, [B] each, in the vital's unit."""
    table = np.array([(v.clinical_offset, v.scale_floor) for v in VITALS], np.float32)
    return table[vital, 0], table[vital, 1]


def window_pinball(
    forecast: torch.Tensor, target: torch.Tensor, levels: torch.Tensor
) -> torch.Tensor:
    """Return the pinball loss of each window, the mean over its observed steps and all levels.

    Args:
        forecast: ``[B, Q, H]``.
        target: ``[B, H]``, NaN = not observed.
        levels: ``[Q]``, the quantile levels.

    Returns:
        ``[B]``: twice the pinball loss, which at level .5 is the absolute error; 0 for a window
        without observed steps.
    """
    observed = ~torch.isnan(target)
    error = torch.where(observed, target, 0.0)[:, None] - forecast
    level = levels[:, None]
    pinball = 2.0 * torch.maximum(level * error, (level - 1.0) * error).mean(dim=1)  # [B, H]
    count = observed.sum(dim=1).clamp(min=1)
    return torch.where(observed, pinball, 0.0).sum(dim=1) / count
