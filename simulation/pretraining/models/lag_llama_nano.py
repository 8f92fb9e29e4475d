"""`lag-llama-nano`: Lag-Llama's network at a tenth of the published size."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from common.backbones.base import plain_model
from common.backbones.lag_llama.lag_llama import LagLlama, write_weights
from common.backbones.lag_llama.network import LagLlamaNetwork, static_features
from common.backbones.lag_llama.series import (
    forecast_quantiles,
    next_step_loss,
    robust_scale,
)
from common.backbones.lag_llama.sizes import PUBLISHED_LAGS, LagLlamaSizes
from common.evaluation.evaluate import LEVELS
from simulation.pretraining.model_spec import NanoModel
from simulation.pretraining.recipe import GENERIC_MIX, PretrainingRecipe
from simulation.pretraining.train import WindowBatch

_LONGEST_LAG = 48
"""Largest lag; a context of two days of hours fills it."""

_FLOOR = (0.05, 2.0)
"""Range of the scale floors in training, in deviations of the context, log-uniform.

In use the floor is that of the vital; without flat series in training, the forecast of a flat
series would be too wide.
"""

_SCALE, _LARGEST_LOC = (0.01, 100.0), 1000.0
"""Ranges of the scale and level inputs in training, both log-uniform.

They are drawn independently of the window, which changes only these two inputs, as if the series
had another unit and another zero. With the levels of synthetic series alone, a heart rate of 85 or
a pressure of 120 would be outside the training range.
"""

_EVALUATION_FLOOR = 0.5
"""Floor in `predict_quantiles`, where the vital is unknown, in deviations of the context."""

_HELD_OUT_SEED = 1
_LEAST_SCALE = 1e-3

RECIPE = PretrainingRecipe(
    name="lag-llama-nano",
    architecture={
        "context_length": 48,
        "max_context_length": 256,
        "n_layer": 4,
        "n_head": 4,
        "n_embd_per_head": 16,
        "lags_seq": tuple(lag for lag in PUBLISHED_LAGS if lag <= _LONGEST_LAG),
        "time_feat": True,
    },
    family_mix=GENERIC_MIX,
    steps=1200,
    log_rows=50,
    batch_size=64,
    learning_rate=3e-3,
    max_context=96,
    horizon=12,
)


def build(recipe: PretrainingRecipe) -> nn.Module:
    """Return the network with random weights from torch's global generator."""
    return LagLlamaNetwork(LagLlamaSizes.from_json(recipe.architecture, recipe.name))


def window_loss(model: nn.Module, batch: WindowBatch) -> Tensor:
    """Return the negative log-likelihood per observed step in the window's scale, ``[batch]``.

    The floor and the level and scale inputs are drawn for every window: from torch's global
    generator in training, from a fixed seed in evaluation.
    """
    context = batch.context
    generator = None if model.training else torch.Generator().manual_seed(_HELD_OUT_SEED)
    drawn = torch.rand(4, len(context), 1, generator=generator)
    floor = _deviation(context) * _log_uniform(drawn[0], *_FLOOR)
    loc, scale = robust_scale(context, floor.squeeze(1), torch.zeros(len(context)))
    input_loc = torch.expm1(drawn[1] * torch.log1p(torch.tensor(_LARGEST_LOC)))
    static = static_features(input_loc, _log_uniform(drawn[2], *_SCALE))
    return next_step_loss(model, context, batch.target, loc, scale, static)


def save(model: nn.Module, folder: Path) -> None:
    """Write `config.json` and `model.safetensors` as `python -m client convert lag-llama` does."""
    write_weights(folder, plain_model(model).sizes, model.state_dict())


def predict_quantiles(folder: Path, context: Tensor, horizon: int) -> Tensor:
    """Forecast with the saved folder through fedvitals: ``[batch, horizon, 9]``."""
    network = plain_model(LagLlama().build(folder))
    floor = (_EVALUATION_FLOOR * _deviation(context)).squeeze(1)
    loc, scale = robust_scale(context, floor, torch.zeros(len(context)))
    with torch.inference_mode():
        return forecast_quantiles(network, context, loc, scale, horizon, LEVELS)


def _deviation(context: Tensor) -> Tensor:
    """Return the standard deviation of the observed values, ``[batch, 1]``, at least 1e-3."""
    centred = context - context.nanmean(dim=1, keepdim=True)
    return centred.square().nanmean(dim=1, keepdim=True).sqrt().clamp(min=_LEAST_SCALE)


def _log_uniform(uniform: Tensor, low: float, high: float) -> Tensor:
    return low * (high / low) ** uniform


LAG_LLAMA_NANO = NanoModel(
    recipe=RECIPE,
    build=build,
    window_loss=window_loss,
    save=save,
    predict_quantiles=predict_quantiles,
    packages=("numpy", "safetensors", "torch"),
    architecture=(
        "Lag-Llama's network (arXiv 2310.08278, written anew in `common.backbones`) of nano size: "
        "4 layers, 4 heads of 16, 48 tokens of context, those 25 of the 84 published lags that "
        f"reach back {_LONGEST_LAG} steps at most, calendar features, a Student-t head. What it is "
        "told of a window's level and scale was drawn at random in training, log-uniform up to "
        f"{_LARGEST_LOC:g} and in {_SCALE[0]:g} to {_SCALE[1]:g}, so that no unit is strange to it."
    ),
    loading=(
        "from common.backbones.loading import load_backbone\n\n"
        'loaded = load_backbone("lag-llama-nano")  # loaded.backbone, loaded.model, loaded.digest'
    ),
    limits=(
        "The figures above were made without knowing the vital sign: in place of its scale floor, "
        f"the scale was held at {_EVALUATION_FLOOR:g} of the context's deviation or more.",
        "Calendar features were constant in training: it knows no time of day.",
    ),
)
