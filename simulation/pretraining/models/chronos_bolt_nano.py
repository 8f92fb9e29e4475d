"""`chronos-bolt-nano`: Chronos-Bolt's own network at a tenth of the published tiny size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from simulation.pretraining.model_spec import NanoModel, save_pretrained
from simulation.pretraining.recipe import PretrainingRecipe
from simulation.pretraining.train import WindowBatch

QUANTILES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)

TARGET_BOUND = 20.0
"""Largest target in units of the context's deviation.

A nearly constant context divides by almost nothing; unbounded, one such window would make up the
whole mean of the log.
"""

RECIPE = PretrainingRecipe(
    name="chronos-bolt-nano",
    architecture={
        "d_model": 96,
        "d_ff": 384,
        "d_kv": 24,
        "num_heads": 4,
        "num_layers": 3,
        "num_decoder_layers": 2,
        "feed_forward_proj": "relu",
        "dropout_rate": 0.0,
        # At T5's own 1.0 the small network starts with saturated attention and learns worse.
        "initializer_factor": 0.3,
        "patch": 4,
        "quantiles": QUANTILES,
    },
    family_mix={
        "kernel_synth": 0.35,
        "season_and_trend": 0.15,
        "level_shifts": 0.10,
        "arma": 0.15,
        "damped_oscillation": 0.08,
        "garch": 0.05,
        "random_walk": 0.12,
    },
)


def build(recipe: PretrainingRecipe) -> nn.Module:
    """Make the network with fresh weights from torch's global generator."""
    # chronos takes seconds to import; only those who build or load a model wait for it.
    from chronos.chronos_bolt import ChronosBoltModelForForecasting
    from transformers import T5Config

    architecture = dict(recipe.architecture)
    patch = architecture.pop("patch")
    quantiles = list(architecture.pop("quantiles"))
    chronos_config = {
        "context_length": recipe.max_context,
        "prediction_length": recipe.horizon,
        "input_patch_size": patch,
        "input_patch_stride": patch,
        "quantiles": quantiles,
        "use_reg_token": True,
    }
    settings: dict[str, Any] = {
        **architecture,
        "is_encoder_decoder": True,
        "use_cache": False,
        "vocab_size": 2,
        "pad_token_id": 0,
        "eos_token_id": 1,
        "decoder_start_token_id": 0,
        "chronos_pipeline_class": "ChronosBoltPipeline",
        "chronos_config": chronos_config,
    }
    config = T5Config(**settings)
    config.architectures = ["ChronosBoltModelForForecasting"]
    model: nn.Module = ChronosBoltModelForForecasting(config)
    return model


def window_loss(model: nn.Module, batch: WindowBatch) -> Tensor:
    """Pinball loss in units of the context's deviation, over observed targets, ``[batch]``."""
    bolt: Any = model  # its parts are attributes that nn.Module's own type does not know
    predicted = bolt(context=batch.context).quantile_preds  # [batch, quantile, horizon], unscaled
    _, (loc, scale) = bolt.instance_norm(batch.context)  # [batch, 1] each
    predicted = (predicted - loc[:, :, None]) / scale[:, :, None]
    target = ((batch.target - loc) / scale).clamp(-TARGET_BOUND, TARGET_BOUND)  # [batch, horizon]
    observed = ~torch.isnan(target)
    error = torch.nan_to_num(target)[:, None, :] - predicted
    levels = bolt.quantiles.view(1, -1, 1)
    pinball = 2.0 * torch.maximum(levels * error, (levels - 1.0) * error).mean(dim=1)
    losses: Tensor = (pinball * observed).sum(dim=1) / observed.sum(dim=1).clamp(min=1)
    return losses


def predict_quantiles(folder: Path, context: Tensor, horizon: int) -> Tensor:
    """Forecast with the saved folder through the published pipeline: ``[batch, horizon, 9]``."""
    from chronos import ChronosBoltPipeline

    pipeline = ChronosBoltPipeline.from_pretrained(folder, device_map="cpu")
    with torch.no_grad():
        blocks = [
            pipeline.predict_quantiles(rows, horizon, list(QUANTILES))[0]
            for rows in torch.split(context, 1024)
        ]
    return torch.cat(blocks).sort(dim=-1).values


CHRONOS_BOLT_NANO = NanoModel(
    recipe=RECIPE,
    build=build,
    window_loss=window_loss,
    save=save_pretrained,
    predict_quantiles=predict_quantiles,
    packages=("numpy", "torch", "transformers", "safetensors", "chronos-forecasting"),
    architecture=(
        "A genuine Chronos-Bolt (`ChronosBoltModelForForecasting` of the package "
        "chronos-forecasting, arXiv 2403.07815) of nano size: d_model 96, d_ff 384, 4 heads of "
        "24, 3 encoder and 2 decoder layers, patches of 4 steps, a [REG] token, quantiles .1 to .9."
    ),
    loading=(
        "from chronos import ChronosBoltPipeline\n\n"
        'pipeline = ChronosBoltPipeline.from_pretrained("FOLDER")\n'
        "quantiles, median = pipeline.predict_quantiles(context, prediction_length=6)"
    ),
    limits=(
        "A constant context has a deviation of zero, and the forecast then an interval of almost "
        "nothing: put a floor under the scale.",
        "Quantiles can cross: sort them.",
        "Seasons are not learnt: with the shipped weights, the median forecast of a plain sine of "
        "8 to 40 steps stays near its mean.",
    ),
)
