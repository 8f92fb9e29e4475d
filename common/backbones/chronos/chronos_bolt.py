"""Chronos-Bolt: patches in, nine quantiles of the whole horizon out, in one forward pass.

The network is that of the package chronos-forecasting (Ansari et al., arXiv 2403.07815). Inputs are
(x - clinical offset) / scale floor of their vital. Bolt standardises each context itself, so this
changes nothing in exact arithmetic, but a lower bound of 1 for the scale is then right for every
vital. Without it the package divides a constant context (SpO2 98, 98, 98 ...) by 1e-5 and forecasts
an interval of 1e-4. An empty context is forecast at a typical value instead of 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from chronos.chronos_bolt import ChronosBoltModelForForecasting, InstanceNorm

from common.backbones.base import Batch, in_scale_units, plain_model, window_pinball
from common.backbones.weights_folder import load_pretrained, read_weights_config
from common.data.windows import FloatArray, IntArray
from common.errors import BackboneError

_LEVELS: tuple[float, ...] = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)

# Weights that T5 ties to `shared`; the file need not hold them.
_TIED = frozenset({"encoder.embed_tokens.weight", "decoder.embed_tokens.weight"})

# PEFT looks for a token embedding, which Bolt's class does not name.
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
    """The Chronos-Bolt family; see `common.backbones.base.Backbone`."""

    family = "chronos-bolt"
    # The decoder has one query token: over itself its attention weight is 1 whatever q and k are,
    # so their gradient is zero and they are left out.
    attention = (
        r".*(encoder.*SelfAttention\.(q|k|v|o)"
        r"|decoder.*(SelfAttention\.(v|o)|EncDecAttention\.(q|k|v|o)))"
    )
    feed_forward = r".*DenseReluDense\.(wi|wi_0|wi_1|wo)"

    def build(self, weights: Path) -> torch.nn.Module:
        """Load config.json and model.safetensors from a folder, frozen and in eval mode."""
        config = _read_config(weights)
        model = load_pretrained("Chronos-Bolt", ChronosBoltModelForForecasting, weights, _TIED)
        if tuple(config["chronos_config"]["quantiles"]) != _LEVELS:
            raise BackboneError(f"{weights} has other quantile levels than 0.1, 0.2 ... 0.9")
        model.instance_norm = FlooredInstanceNorm()
        return model

    def collate(self, context: FloatArray, target: FloatArray | None, vital: IntArray) -> Batch:
        """Return `context` [B, C] and `target` [B, H] in scale units, `offset` and `scale` [B]."""
        return in_scale_units(context, target, vital)

    def window_loss(self, model: torch.nn.Module, batch: Batch) -> torch.Tensor:
        """Return the pinball loss [B] over observed steps and levels, in the context's scale."""
        context, target = batch["context"], batch["target"]
        scale: torch.Tensor = plain_model(model).instance_norm(context)[1][1]  # [B, 1]
        forecast = self._forecast(model, context, target.shape[1])  # [B, Q, H]
        levels = torch.tensor(_LEVELS, device=target.device)
        return window_pinball(forecast, target, levels) / scale.squeeze(1)

    def predict_quantiles(
        self, model: torch.nn.Module, batch: Batch, horizon_steps: int, levels: Sequence[float]
    ) -> torch.Tensor:
        """Return quantiles [B, H, Q]; levels between the model's nine are interpolated linearly."""
        forecast = self._forecast(model, batch["context"], horizon_steps).float()
        # Quantiles are trained one by one and may cross: sorted, they are a distribution again.
        ordered = forecast.sort(dim=1).values.movedim(1, 2)  # [B, H, 9]
        in_unit = ordered * batch["scale"][:, None, None] + batch["offset"][:, None, None]
        return in_unit if tuple(levels) == _LEVELS else at_levels(in_unit, _LEVELS, levels)

    def facts(self, model: torch.nn.Module) -> dict[str, str]:
        """Describe loss, input and forecast in words."""
        patch = plain_model(model).chronos_config.input_patch_size
        return {
            "loss": "pinball loss at nine quantiles, in units of the context's deviation",
            "input": f"patches of {patch} steps",
            "forecast": "nine quantiles of every step at once",
        }

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


def at_levels(
    quantiles: torch.Tensor, known: Sequence[float], levels: Sequence[float]
) -> torch.Tensor:
    """Interpolate quantiles [..., L] at the `known` levels linearly to [..., Q] at `levels`.

    Raises:
        BackboneError: a level is outside the known ones.
    """
    outside = [level for level in levels if not known[0] <= level <= known[-1]]
    if outside:
        raise BackboneError(
            f"this backbone gives quantile levels {known[0]:g} to {known[-1]:g}, got {outside[0]:g}"
        )
    place = torch.from_numpy(np.interp(levels, known, np.arange(len(known))))
    low = place.long().clamp(max=len(known) - 2)
    share = (place - low).to(quantiles)
    low = low.to(quantiles.device)
    return torch.lerp(quantiles[..., low], quantiles[..., low + 1], share)


def _read_config(weights: Path) -> dict[str, Any]:
    config = read_weights_config(weights)
    kind = config.get("chronos_pipeline_class")
    if "chronos_config" not in config or kind not in (None, "ChronosBoltPipeline"):
        raise BackboneError(f"{weights} is not a Chronos-Bolt model (pipeline class {kind})")
    return config
