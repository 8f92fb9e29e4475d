"""`chronos-bolt-nano`: Chronos-Bolt's network at a tenth of the published tiny size."""

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
    TARGET_BOUND,
    NanoModel,
    save_pretrained,
)
from simulation.pretraining.recipe import GENERIC_MIX, PretrainingRecipe
from simulation.pretraining.train import WindowBatch

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
        "quantiles": LEVELS,
    },
    family_mix=GENERIC_MIX,
)


def build(recipe: PretrainingRecipe) -> nn.Module:
    """Return the network with random weights from torch's global generator."""
    # Imported here, since chronos takes seconds to import.
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
    """Return the pinball loss in units of the context's deviation, ``[batch]``."""
    bolt: Any = model  # its parts are attributes that nn.Module's own type does not know
    predicted = bolt(context=batch.context).quantile_preds  # [batch, quantile, horizon], unscaled
    _, (loc, scale) = bolt.instance_norm(batch.context)  # [batch, 1] each
    predicted = (predicted - loc[:, :, None]) / scale[:, :, None]
    target = ((batch.target - loc) / scale).clamp(-TARGET_BOUND, TARGET_BOUND)  # [batch, horizon]
    return window_pinball(predicted, target, bolt.quantiles)


def predict_quantiles(folder: Path, context: Tensor, horizon: int) -> Tensor:
    """Forecast with the saved folder through the published pipeline: ``[batch, horizon, 9]``."""
    from chronos import ChronosBoltPipeline

    pipeline = ChronosBoltPipeline.from_pretrained(folder, device_map="cpu")
    with torch.no_grad():
        blocks = [
            pipeline.predict_quantiles(rows, horizon, list(LEVELS))[0]
            for rows in torch.split(context, 1024)
        ]
    return torch.cat(blocks).sort(dim=-1).values


CHRONOS_BOLT_NANO = NanoModel(
    recipe=RECIPE,
    build=build,
    window_loss=window_loss,
    save=save_pretrained,
    predict_quantiles=predict_quantiles,
    packages=CHRONOS_PACKAGES,
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
        CONSTANT_CONTEXT_LIMIT,
        CROSSING_LIMIT,
        "Seasons are not learnt: with the shipped weights, the median forecast of a plain sine of "
        "8 to 40 steps stays near its mean.",
    ),
)
