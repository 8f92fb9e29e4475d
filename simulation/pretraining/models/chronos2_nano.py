"""`chronos2-nano`: Chronos-2's network at less than a hundredth of the published size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from common.backbones.base import window_pinball
from common.evaluation.evaluate import LEVELS
from simulation.pretraining.model_spec import (
    CHRONOS_PACKAGES,
    CONSTANT_CONTEXT_LIMIT,
    CROSSING_LIMIT,
    NanoModel,
    save_pretrained,
)
from simulation.pretraining.recipe import GENERIC_MIX, PretrainingRecipe
from simulation.pretraining.train import WindowBatch

CHRONOS2_QUANTILES = (0.01, *(round(0.05 * step, 2) for step in range(1, 20)), 0.99)
"""The 21 levels of the published model."""

RECIPE = PretrainingRecipe(
    name="chronos2-nano",
    architecture={
        "d_model": 96,
        "d_ff": 384,
        "d_kv": 24,
        "num_heads": 4,
        "num_layers": 4,
        "feed_forward_proj": "relu",
        "dropout_rate": 0.0,
        # At 1.0 the small network starts with saturated attention and learns worse.
        "initializer_factor": 0.3,
        "patch": 4,
        "quantiles": CHRONOS2_QUANTILES,
    },
    family_mix=GENERIC_MIX,
    # Half of Bolt's, since patches of the horizon are tokens too.
    batch_size=64,
    steps=5000,
    learning_rate=2e-3,
)


def build(recipe: PretrainingRecipe) -> nn.Module:
    """Return the network with random weights from torch's global generator."""
    # Imported here, since chronos takes seconds to import.
    from chronos.chronos2.config import Chronos2CoreConfig
    from chronos.chronos2.model import Chronos2Model

    architecture = dict(recipe.architecture)
    patch = architecture.pop("patch")
    chronos_config = {
        "context_length": recipe.max_context,
        "input_patch_size": patch,
        "input_patch_stride": patch,
        "output_patch_size": patch,
        "max_output_patches": -(-recipe.horizon // patch),
        "quantiles": list(architecture.pop("quantiles")),
        "use_arcsinh": True,
        "use_reg_token": True,
    }
    settings: dict[str, Any] = {
        **architecture,
        "vocab_size": 2,
        "pad_token_id": 0,
        "chronos_pipeline_class": "Chronos2Pipeline",
        "chronos_config": chronos_config,
    }
    config = Chronos2CoreConfig(**settings)
    config.architectures = ["Chronos2Model"]
    model: nn.Module = Chronos2Model(config)
    return model


def window_loss(model: nn.Module, batch: WindowBatch) -> Tensor:
    """Return the pinball loss over observed targets in the model's own space, ``[batch]``.

    That space is the arcsinh of the deviations from the context's mean, which bounds the loss of a
    nearly constant context. Each series is its own group.

    The number of forecast patches varies with the length of the context, from one to all, since the
    tokens of these patches attend to one another and a short forecast has fewer of them.
    """
    chronos2: Any = model  # its parts are attributes that nn.Module's own type does not know
    settings = chronos2.chronos_config
    patches = 1 + batch.context.shape[1] % settings.max_output_patches
    predicted, loc_scale = _standardised_forecast(chronos2, batch.context, patches)
    nearest = batch.target[:, : patches * settings.output_patch_size]
    predicted = predicted[..., : nearest.shape[1]]
    target, _ = chronos2.instance_norm(nearest, loc_scale)  # [batch, step]
    return window_pinball(predicted, target, chronos2.quantiles)


def _standardised_forecast(
    model: Any, context: Tensor, patches: int
) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """Return quantiles ``[batch, quantile, step]`` in standardised units.

    The network's `forward` converts them back to the series' unit, where a deviation of 1e-5 is
    lost in float32 when the mean is added.
    """
    encoded, loc_scale, *_ = model.encode(context=context, num_output_patches=patches)
    predicted = model.output_patch_embedding(encoded[0][:, -patches:])  # [batch, patch, q * p]
    by_quantile = predicted.unflatten(2, (model.num_quantiles, -1)).transpose(1, 2)
    return by_quantile.flatten(2), loc_scale


def predict_quantiles(folder: Path, context: Tensor, horizon: int) -> Tensor:
    """Forecast with the saved folder through the published pipeline: ``[batch, horizon, 9]``."""
    from chronos import Chronos2Pipeline

    pipeline = Chronos2Pipeline.from_pretrained(folder, device_map="cpu")
    forecasts, _ = pipeline.predict_quantiles(
        context[:, None], prediction_length=horizon, quantile_levels=list(LEVELS)
    )
    return torch.cat(forecasts).sort(dim=-1).values


CHRONOS2_NANO = NanoModel(
    recipe=RECIPE,
    build=build,
    window_loss=window_loss,
    save=save_pretrained,
    predict_quantiles=predict_quantiles,
    packages=CHRONOS_PACKAGES,
    architecture=(
        "A genuine Chronos-2 (`Chronos2Model` of the package chronos-forecasting, arXiv "
        "2510.15821) of nano size: d_model 96, d_ff 384, 4 heads of 24, 4 layers of time "
        "attention, group attention and feed-forward, patches of 4 steps, a [REG] token, arcsinh "
        "scaling, the published 21 quantiles .01, .05 to .95, .99."
    ),
    loading=(
        "from chronos import Chronos2Pipeline\n\n"
        'pipeline = Chronos2Pipeline.from_pretrained("FOLDER")\n'
        "# context [series, 1, steps]; a list with [1, 6, 9] of each series comes back\n"
        "quantiles, median = pipeline.predict_quantiles(context, prediction_length=6)"
    ),
    limits=(
        "Pretrained on one series at a time: the attention across the series of a group, and with "
        "it multivariate forecasting and covariates, is not trained.",
        CONSTANT_CONTEXT_LIMIT,
        CROSSING_LIMIT,
    ),
)
