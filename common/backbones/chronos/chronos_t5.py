"""Chronos T5: values become tokens, T5 predicts the next token, sampled paths become quantiles.

The network is transformers' T5 with the tokenizer of chronos-forecasting (Ansari et al., arXiv
2403.07815): a context is divided by its mean absolute value and quantised into even bins between
-15 and 15. This scale does not remove the level: for temperatures around 37 °C the bins would be
0.27 °C wide. Inputs are therefore (x - clinical offset) / scale floor of their vital. The mean
absolute value has a lower bound of 1, so that a constant context (SpO2 97, 97, 97 ...) is not
divided by almost 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from chronos import ChronosConfig, MeanScaleUniformBins
from torch.nn import functional
from transformers import T5ForConditionalGeneration

from common.backbones.base import Batch, in_scale_units, plain_model
from common.backbones.chronos.token_sampling import sample_tokens
from common.backbones.weights_folder import load_pretrained, read_weights_config
from common.data.windows import FloatArray, IntArray
from common.errors import BackboneError

SAMPLED_PATHS = 200
"""Sampled paths per forecast; the coverage of an 80 % interval then deviates by 3 points."""

SEED = 20240312
"""Seed of every window's sampling, independent of the run and the batch."""

# Weights that T5 ties to `shared`; the file need not hold them.
_TIED = frozenset({"encoder.embed_tokens.weight", "decoder.embed_tokens.weight", "lm_head.weight"})
_NO_LABEL = -100


class FlooredMeanScale(MeanScaleUniformBins):  # type: ignore[misc]
    """The package's tokenizer with a scale of at least 1."""

    def _input_transform(
        self, context: torch.Tensor, scale: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        if scale is None:
            scale = super()._input_transform(context)[2].clamp(min=1.0)
        tokens: tuple[torch.Tensor, torch.Tensor, torch.Tensor]
        tokens = super()._input_transform(context, scale)
        return tokens


class ChronosT5:
    """The Chronos T5 family; see `common.backbones.base.Backbone`."""

    family = "chronos-t5"
    # With two or more steps of horizon every attention projection has a gradient.
    attention = r".*\.(SelfAttention|EncDecAttention)\.(q|k|v|o)"
    feed_forward = r".*\.DenseReluDense\.(wi|wi_0|wi_1|wo)"

    def build(self, weights: Path) -> torch.nn.Module:
        """Load config.json and model.safetensors from a folder, frozen and in eval mode."""
        _check_config(weights)
        return load_pretrained("Chronos T5", T5ForConditionalGeneration, weights, _TIED)

    def collate(self, context: FloatArray, target: FloatArray | None, vital: IntArray) -> Batch:
        """Return `context` [B, C] and `target` [B, H] in scale units, `offset` and `scale` [B]."""
        return in_scale_units(context, target, vital)

    def window_loss(self, model: torch.nn.Module, batch: Batch) -> torch.Tensor:
        """Return the cross-entropy [B] of the target's tokens, a mean over its observed steps."""
        return token_loss(model, _tokenizer(model), batch["context"], batch["target"])

    @torch.no_grad()
    def predict_quantiles(
        self, model: torch.nn.Module, batch: Batch, horizon_steps: int, levels: Sequence[float]
    ) -> torch.Tensor:
        """Return quantiles [B, H, Q] of `SAMPLED_PATHS` paths sampled for each window.

        The paths of a window are those of the package's `ChronosPipeline.predict` for that window
        alone after ``torch.manual_seed(SEED)``, with ``num_samples=SAMPLED_PATHS`` and ``top_k=0``.
        The package's default keeps the 50 likeliest tokens of a step: with the level removed, a
        vital spreads over hundreds of bins, and 50 tokens would truncate its distribution.
        """
        tokenizer = _tokenizer(model)
        _check_horizon(tokenizer, horizon_steps)
        device = batch["context"].device
        ids, mask, scale = tokenizer.context_input_transform(batch["context"].cpu())
        tokens = sample_tokens(
            plain_model(model), ids.to(device), mask.to(device), horizon_steps, SAMPLED_PATHS, SEED
        )
        paths = tokenizer.output_transform(tokens.cpu(), scale).to(device)  # [B, S, H]
        at = torch.tensor(levels, dtype=paths.dtype, device=device)
        quantiles = torch.quantile(paths, at, dim=1).permute(1, 2, 0)  # [B, H, Q]
        return quantiles * batch["scale"][:, None, None] + batch["offset"][:, None, None]

    def facts(self, model: torch.nn.Module) -> dict[str, str]:
        """Describe loss, input and forecast in words."""
        config = _tokenizer(model).config
        bins = config.n_tokens - config.n_special_tokens - 1
        return {
            "loss": "cross-entropy of the target's tokens",
            "input": f"one token a step, of {bins} bins in units of the context's mean size",
            "forecast": f"quantiles of {SAMPLED_PATHS} sampled paths",
        }


def token_loss(
    model: torch.nn.Module,
    tokenizer: MeanScaleUniformBins,
    context: torch.Tensor,
    target: torch.Tensor,
) -> torch.Tensor:
    """Return each window's mean cross-entropy over its observed target steps.

    Args:
        model: T5, plain or in PEFT's wrapper.
        tokenizer: the tokenizer with its scale and bins.
        context: ``[B, C]``, NaN = not observed.
        target: ``[B, H]`` likewise, H at most the model's prediction length.

    Returns:
        ``[B]``, 0 for a window without an observed step. No row depends on another, unlike T5's own
        loss, a mean over all tokens of a batch.

    Raises:
        BackboneError: the target is too long.
    """
    steps = target.shape[1]
    _check_horizon(tokenizer, steps)
    # The tokenizer's tables are on the CPU, and it takes targets of the full length only.
    ids, mask, scale = tokenizer.context_input_transform(context.cpu())
    missing = tokenizer.config.prediction_length - steps
    padded = functional.pad(target.cpu(), (0, missing), value=torch.nan)
    labels, observed = (
        tensor[:, :steps].to(target.device)
        for tensor in tokenizer.label_input_transform(padded, scale)
    )
    labels = labels.masked_fill(~observed, _NO_LABEL)  # [B, H]
    logits = model(
        input_ids=ids.to(target.device),
        attention_mask=mask.to(target.device),
        decoder_input_ids=plain_model(model).prepare_decoder_input_ids_from_labels(labels),
        use_cache=False,
    ).logits.float()  # [B, H, V]
    losses = functional.cross_entropy(
        logits.flatten(0, 1), labels.flatten(), ignore_index=_NO_LABEL, reduction="none"
    ).view_as(labels)
    loss: torch.Tensor = losses.sum(dim=1) / observed.sum(dim=1).clamp(min=1)
    return loss


def _tokenizer(model: torch.nn.Module) -> MeanScaleUniformBins:
    config = ChronosConfig(**plain_model(model).config.chronos_config)
    return FlooredMeanScale(config=config, **config.tokenizer_kwargs)


def _check_horizon(tokenizer: MeanScaleUniformBins, steps: int) -> None:
    longest = tokenizer.config.prediction_length
    if steps > longest:
        raise BackboneError(
            f"this Chronos T5 forecasts at most {longest} steps, got windows.horizon = {steps}"
        )


def _check_config(weights: Path) -> None:
    config = read_weights_config(weights)
    chronos = config.get("chronos_config", {})
    kind = (config.get("model_type"), chronos.get("tokenizer_class"), chronos.get("model_type"))
    if kind != ("t5", "MeanScaleUniformBins", "seq2seq"):
        raise BackboneError(
            f"{weights} is not a Chronos T5 model (model type {kind[0]}, tokenizer {kind[1]})"
        )
    try:
        ChronosConfig(**chronos)
    except (TypeError, AssertionError) as error:
        raise BackboneError(f"{weights / 'config.json'} is damaged: {error}") from error
