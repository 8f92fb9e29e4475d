"""Chronos T5: values become tokens, T5 predicts the next token, sampled paths become quantiles.

The network is transformers' T5 with the chronos-forecasting package's tokenizer (Ansari et al.,
arXiv 2403.07815): a context is divided by its mean absolute value and sorted into even bins between
-15 and 15. That scale does not take a level away: of temperatures around 37 °C the bins would be
0.27 °C wide. Values therefore go in as (x - clinical offset) / scale floor of their vital, and a
context's mean absolute value is taken as at least 1, which keeps a constant context (SpO2 97, 97,
97 ...) from being scaled by nothing.
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
from common.backbones.weights_folder import load_pretrained, read_config
from common.data.windows import FloatArray, IntArray
from common.errors import BackboneError

SAMPLES = 200
"""Sampled paths of a forecast: an interval of 80 % then covers 80 % within 3 points (deviation)."""

SEED = 20240312
"""Seeds the sampling of every window, whatever else is forecast in the same run or batch."""

# From two steps of horizon on, every projection of the attention gets a gradient.
_ATTENTION = r".*\.(SelfAttention|EncDecAttention)\.(q|k|v|o)"
_FEED_FORWARD = r".*\.DenseReluDense\.(wi|wi_0|wi_1|wo)"
# Weights that T5 ties to `shared`, which the file therefore need not hold.
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
    """The family; see `common.backbones.base.Backbone`."""

    family = "chronos-t5"

    def build(self, weights: Path) -> torch.nn.Module:
        """Load a folder as on the hub: config.json and model.safetensors, frozen, in eval mode."""
        _check_config(weights)
        return load_pretrained("Chronos T5", T5ForConditionalGeneration, weights, _TIED)

    def collate(self, context: FloatArray, target: FloatArray | None, vital: IntArray) -> Batch:
        """Give `context` [B, C], `target` [B, H] in units of the scale floor, `offset`, `scale`."""
        return in_scale_units(context, target, vital)

    def window_loss(self, model: torch.nn.Module, batch: Batch) -> torch.Tensor:
        """Give the cross-entropy [B] of the target's tokens, a mean over its observed steps."""
        return token_loss(model, _tokenizer(model), batch["context"], batch["target"])

    @torch.no_grad()
    def predict_quantiles(
        self, model: torch.nn.Module, batch: Batch, horizon_steps: int, levels: Sequence[float]
    ) -> torch.Tensor:
        """Give quantiles [B, H, Q] of `SAMPLES` paths drawn from each window's own distribution.

        The paths of a window are those of the package's `ChronosPipeline.predict` for that window
        alone after ``torch.manual_seed(SEED)``, with ``num_samples=SAMPLES`` and ``top_k=0``. The
        package's own default keeps the 50 likeliest tokens of a step: without the level, which was
        taken away here, a vital spreads over hundreds of bins, and 50 would cut its distribution
        down to the middle.
        """
        tokenizer = _tokenizer(model)
        _check_horizon(tokenizer, horizon_steps)
        device = batch["context"].device
        ids, mask, scale = tokenizer.context_input_transform(batch["context"].cpu())
        tokens = sample_tokens(
            plain_model(model), ids.to(device), mask.to(device), horizon_steps, SAMPLES, SEED
        )
        paths = tokenizer.output_transform(tokens.cpu(), scale).to(device)  # [B, S, H]
        at = torch.tensor(levels, dtype=paths.dtype, device=device)
        quantiles = torch.quantile(paths, at, dim=1).permute(1, 2, 0)  # [B, H, Q]
        return quantiles * batch["scale"][:, None, None] + batch["offset"][:, None, None]

    def facts(self, model: torch.nn.Module) -> dict[str, str]:
        """Say what is T5's own."""
        config = _tokenizer(model).config
        bins = config.n_tokens - config.n_special_tokens - 1
        return {
            "loss": "cross-entropy of the target's tokens",
            "input": f"one token a step, of {bins} bins in units of the context's mean size",
            "forecast": f"quantiles of {SAMPLES} sampled paths",
        }

    def lora_targets(self, scope: str) -> str:
        """Give the projections of the attention, or of the feed-forward layers too."""
        return _ATTENTION if scope == "attention" else f"({_ATTENTION}|{_FEED_FORWARD})"


def token_loss(
    model: torch.nn.Module,
    tokenizer: MeanScaleUniformBins,
    context: torch.Tensor,
    target: torch.Tensor,
) -> torch.Tensor:
    """Return each window's mean cross-entropy over its observed target steps.

    Args:
        model: T5, plain or in PEFT's wrapper.
        tokenizer: gives the scale and the bins.
        context: ``[B, C]``, NaN = not observed.
        target: ``[B, H]`` likewise, H at most the model's prediction length.

    Returns:
        ``[B]``, 0 for a window without an observed step; no row depends on another, which T5's own
        loss, a mean over all tokens of a batch, does not give.

    Raises:
        BackboneError: where the target is too long.
    """
    steps = target.shape[1]
    _check_horizon(tokenizer, steps)
    # The tokenizer's tables lie on the CPU and it takes targets of the full length alone.
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
    config = read_config(weights)
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
