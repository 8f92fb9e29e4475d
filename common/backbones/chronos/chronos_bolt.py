"""Chronos-Bolt: patches in, nine quantiles of the whole horizon out, in one forward pass.

The network is the chronos-forecasting package's own (Ansari et al., arXiv 2403.07815). Values go in
as (x - clinical offset) / scale floor of their vital. Bolt standardises each context itself, so
this shift and stretch changes nothing in exact arithmetic, but it makes one floor of 1 right for
every vital: the package divides a constant context (SpO2 98, 98, 98 ...) by 1e-5 and then forecasts
an interval of 1e-4, and an empty context is forecast at a typical value instead of at 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from chronos.chronos_bolt import ChronosBoltModelForForecasting, InstanceNorm

from common.backbones.base import Batch, in_scale_units, plain_model, window_pinball
from common.backbones.weights_folder import load_pretrained, read_config
from common.data.windows import FloatArray, IntArray
from common.errors import BackboneError

LEVELS: tuple[float, ...] = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)

# The decoder has a single query token: over itself alone its attention weight is 1 whatever q and k
# are, so that their gradient is zero and they are left out.
_ATTENTION = (
    r".*(encoder.*SelfAttention\.(q|k|v|o)"
    r"|decoder.*(SelfAttention\.(v|o)|EncDecAttention\.(q|k|v|o)))"
)
_FEED_FORWARD = r".*DenseReluDense\.(wi|wi_0|wi_1|wo)"
# Weights that T5 ties to `shared`, which the file therefore need not hold.
_TIED = frozenset({"encoder.embed_tokens.weight", "decoder.embed_tokens.weight"})

# PEFT asks for a token embedding, which Bolt's class does not name.
ChronosBoltModelForForecasting._input_embed_layer = "shared"


class FlooredInstanceNorm(InstanceNorm):  # type: ignore[misc]
    """The package's standardisation with a scale of at least 1."""

    def forward(
        self, x: torch.Tensor, loc_scale: tuple[torch.Tensor, torch.Tensor] | None = None
    ) -> tuple[torch.Tensor, tuple[torch.Tensor, torch.Tensor]]:
        """Standardise `x` [B, T], by the location and scale given or by its own."""
        if loc_scale is None:
            _, (loc, scale) = super().forward(x)
            loc_scale = loc, scale.clamp(min=1.0)
        scaled: tuple[torch.Tensor, tuple[torch.Tensor, torch.Tensor]]
        scaled = super().forward(x, loc_scale)
        return scaled


class ChronosBolt:
    """The family; see `common.backbones.base.Backbone`."""

    family = "chronos-bolt"

    def build(self, weights: Path) -> torch.nn.Module:
        """Load a folder as on the hub: config.json and model.safetensors, frozen, in eval mode."""
        config = _read_config(weights)
        model = load_pretrained("Chronos-Bolt", ChronosBoltModelForForecasting, weights, _TIED)
        if tuple(config["chronos_config"]["quantiles"]) != LEVELS:
            raise BackboneError(f"{weights} forecasts other quantiles than 0.1, 0.2 ... 0.9")
        model.instance_norm = FlooredInstanceNorm()
        return model

    def collate(self, context: FloatArray, target: FloatArray | None, vital: IntArray) -> Batch:
        """Give `context` [B, C], `target` [B, H] in units of the scale floor, `offset`, `scale`."""
        return in_scale_units(context, target, vital)

    def window_loss(self, model: torch.nn.Module, batch: Batch) -> torch.Tensor:
        """Give the pinball loss [B] over observed steps and levels, in the context's scale."""
        context, target = batch["context"], batch["target"]
        scale: torch.Tensor = plain_model(model).instance_norm(context)[1][1]  # [B, 1]
        forecast = self._forecast(model, context, target.shape[1])  # [B, Q, H]
        levels = torch.tensor(LEVELS, device=target.device)
        return window_pinball(forecast, target, levels) / scale.squeeze(1)

    def predict_quantiles(
        self, model: torch.nn.Module, batch: Batch, horizon_steps: int, levels: Sequence[float]
    ) -> torch.Tensor:
        """Give quantiles [B, H, Q]; levels between the model's nine are interpolated linearly."""
        forecast = self._forecast(model, batch["context"], horizon_steps).float()
        # Quantiles are trained one by one and may cross: sorted, they are a distribution again.
        ordered = forecast.sort(dim=1).values.movedim(1, 2)  # [B, H, 9]
        in_unit = ordered * batch["scale"][:, None, None] + batch["offset"][:, None, None]
        return _at_levels(in_unit, levels)

    def facts(self, model: torch.nn.Module) -> dict[str, str]:
        """Say what is Bolt's own."""
        patch = plain_model(model).chronos_config.input_patch_size
        return {
            "loss": "pinball loss at nine quantiles, in units of the context's deviation",
            "input": f"patches of {patch} steps",
            "forecast": "nine quantiles of every step at once",
        }

    def lora_targets(self, scope: str) -> str:
        """Give the projections of the attention, or of the feed-forward layers too."""
        return _ATTENTION if scope == "attention" else f"({_ATTENTION}|{_FEED_FORWARD})"

    @staticmethod
    def _forecast(
        model: torch.nn.Module, context: torch.Tensor, horizon_steps: int
    ) -> torch.Tensor:
        longest = plain_model(model).chronos_config.prediction_length
        if horizon_steps > longest:
            raise BackboneError(
                f"this Chronos-Bolt forecasts at most {longest} steps, got windows.horizon = "
                f"{horizon_steps}"
            )
        forecast: torch.Tensor = model(context=context).quantile_preds[..., :horizon_steps]
        return forecast


def _at_levels(quantiles: torch.Tensor, levels: Sequence[float]) -> torch.Tensor:
    if tuple(levels) == LEVELS:
        return quantiles
    outside = [level for level in levels if not LEVELS[0] <= level <= LEVELS[-1]]
    if outside:
        raise BackboneError(f"Chronos-Bolt gives quantile levels 0.1 to 0.9, got {outside[0]:g}")
    place = torch.tensor([(level - LEVELS[0]) / 0.1 for level in levels], device=quantiles.device)
    low = place.floor().long().clamp(max=len(LEVELS) - 2)
    return torch.lerp(quantiles[..., low], quantiles[..., low + 1], place - low)


def _read_config(weights: Path) -> dict[str, Any]:
    config = read_config(weights)
    kind = config.get("chronos_pipeline_class")
    if "chronos_config" not in config or kind not in (None, "ChronosBoltPipeline"):
        raise BackboneError(f"{weights} is not a Chronos-Bolt model (pipeline class {kind})")
    return config
