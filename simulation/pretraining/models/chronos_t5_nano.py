"""`chronos-t5-nano`: Chronos T5's own network and tokenizer, a twentieth of the published tiny."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from common.evaluation.evaluate import LEVELS
from simulation.pretraining.model_spec import CHRONOS_PACKAGES, NanoModel, save_pretrained
from simulation.pretraining.recipe import GENERIC_MIX, PretrainingRecipe
from simulation.pretraining.train import WindowBatch

_NUM_SAMPLES = 100
_SAMPLING_SEED = 1

RECIPE = PretrainingRecipe(
    name="chronos-t5-nano",
    architecture={
        "d_model": 64,
        "d_ff": 256,
        "d_kv": 16,
        "num_heads": 4,
        "num_layers": 3,
        "num_decoder_layers": 2,
        "feed_forward_proj": "relu",
        "dropout_rate": 0.0,
        # The published models start from 0.05; the small network takes longer from there.
        "initializer_factor": 0.3,
        # The published models have 4096 tokens; minutes are too short to learn that many.
        "n_tokens": 1024,
    },
    family_mix=GENERIC_MIX,
    steps=3000,
    batch_size=64,
    max_context=96,
)


def build(recipe: PretrainingRecipe) -> nn.Module:
    """Return the network with random weights from torch's global generator."""
    from transformers import T5Config, T5ForConditionalGeneration

    architecture = dict(recipe.architecture)
    tokens = architecture.pop("n_tokens")
    settings: dict[str, Any] = {
        **architecture,
        "is_encoder_decoder": True,
        "vocab_size": tokens,
        "pad_token_id": 0,
        "eos_token_id": 1,
        "decoder_start_token_id": 0,
        "chronos_config": {
            "tokenizer_class": "MeanScaleUniformBins",
            "tokenizer_kwargs": {"low_limit": -15.0, "high_limit": 15.0},
            "context_length": recipe.max_context,
            "prediction_length": recipe.horizon,
            "n_tokens": tokens,
            "n_special_tokens": 2,
            "pad_token_id": 0,
            "eos_token_id": 1,
            "use_eos_token": True,
            "model_type": "seq2seq",
            "num_samples": 200,
            "temperature": 1.0,
            "top_k": 0,
            "top_p": 1.0,
        },
    }
    config = T5Config(**settings)
    config.architectures = ["T5ForConditionalGeneration"]
    model: nn.Module = T5ForConditionalGeneration(config)
    return model


def window_loss(model: nn.Module, batch: WindowBatch) -> Tensor:
    """Return the cross-entropy of the target's tokens over observed steps, ``[batch]``."""
    from chronos import ChronosConfig

    from common.backbones.chronos.chronos_t5 import token_loss

    tokenizer = ChronosConfig(**cast(Any, model).config.chronos_config).create_tokenizer()
    return token_loss(model, tokenizer, batch.context, batch.target)


def predict_quantiles(folder: Path, context: Tensor, horizon: int) -> Tensor:
    """Forecast with the saved folder as the published pipeline does: ``[batch, horizon, 9]``.

    Each context is centred on its median, since the bins are fractions of its mean absolute value,
    too coarse for a series that varies little about a high level.
    """
    from chronos import ChronosPipeline

    from common.backbones.chronos.token_sampling import sample_tokens

    pipeline = ChronosPipeline.from_pretrained(folder, device_map="cpu")
    level = context.nanmedian(dim=1, keepdim=True).values  # [batch, 1]
    ids, mask, scale = pipeline.tokenizer.context_input_transform(context - level)
    with torch.no_grad():
        # The same paths as the pipeline's, in half the time.
        tokens = sample_tokens(
            pipeline.model.model, ids, mask, horizon, _NUM_SAMPLES, _SAMPLING_SEED
        )
    paths = pipeline.tokenizer.output_transform(tokens, scale)  # [batch, sample, horizon]
    quantiles = torch.quantile(paths, torch.tensor(LEVELS), dim=1).permute(1, 2, 0)
    return quantiles + level[:, :, None]


CHRONOS_T5_NANO = NanoModel(
    recipe=RECIPE,
    build=build,
    window_loss=window_loss,
    save=save_pretrained,
    predict_quantiles=predict_quantiles,
    packages=CHRONOS_PACKAGES,
    architecture=(
        "A genuine Chronos T5 (`T5ForConditionalGeneration` of the package transformers with the "
        "tokenizer of chronos-forecasting, arXiv 2403.07815) of nano size: d_model 64, d_ff 256, 4 "
        "heads of 16, 3 encoder and 2 decoder layers, 1,024 tokens."
    ),
    loading=(
        "from chronos import ChronosPipeline\n\n"
        'pipeline = ChronosPipeline.from_pretrained("FOLDER")\n'
        "level = context.nanmedian(dim=1, keepdim=True).values\n"
        "quantiles, mean = pipeline.predict_quantiles(context - level, prediction_length=6)\n"
        "quantiles = quantiles + level[:, :, None]"
    ),
    limits=(
        "The scale is the context's mean absolute value, so that the bins of a series far from "
        "zero are coarse (0.03 of that value): subtract a typical value first. For the figures "
        f"above it was each context's median, with {_NUM_SAMPLES} sampled paths a window.",
        "Values beyond 15 times that scale are cut off there.",
    ),
)
