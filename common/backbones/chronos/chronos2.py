"""Chronos-2: patches in, 21 quantiles of the whole horizon out, in one pass of an encoder.

The network is the chronos-forecasting package's own (Ansari et al., arXiv 2510.15821). It attends
over time and, within a group of series, over the series; here every window is a group of its own,
so that no window sees another. Values go in as (x - clinical offset) / scale floor of their vital,
which changes nothing, since the network standardises each context itself, but makes one floor of 1
right for every vital (see `common.backbones.chronos.chronos_bolt`).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from chronos.chronos2.model import Chronos2Model

from common.backbones.base import Batch, in_scale_units, plain_model, window_pinball
from common.backbones.chronos.chronos_bolt import FlooredInstanceNorm
from common.backbones.weights_folder import load_pretrained, read_config
from common.data.windows import FloatArray, IntArray
from common.errors import BackboneError

# The time attention alone (`layer.0`). In the group attention (`layer.1`) a window attends to
# itself alone, so that its q and k have no gradient; and its tensors are [time, batch, ...], where
# gradients per window, taken from a layer's inputs and outputs, would mix windows up.
_ATTENTION = r".*layer\.0\.self_attention\.(q|k|v|o)"
_FEED_FORWARD = r".*mlp\.(wi|wo)"

# PEFT asks for a token embedding, which Chronos-2's class does not name.
Chronos2Model._input_embed_layer = "shared"


class Chronos2:
    """The family; see `common.backbones.base.Backbone`."""

    family = "chronos-2"

    def build(self, weights: Path) -> torch.nn.Module:
        """Load a folder as on the hub: config.json and model.safetensors, frozen, in eval mode."""
        _check_config(weights)
        model = load_pretrained("Chronos-2", Chronos2Model, weights)
        settings: Any = model.chronos_config
        model.instance_norm = FlooredInstanceNorm(use_arcsinh=settings.use_arcsinh)
        return model

    def collate(self, context: FloatArray, target: FloatArray | None, vital: IntArray) -> Batch:
        """Give `context` [B, C], `target` [B, H] in units of the scale floor, `offset`, `scale`."""
        return in_scale_units(context, target, vital)

    def window_loss(self, model: torch.nn.Module, batch: Batch) -> torch.Tensor:
        """Give the pinball loss [B] over observed steps and the model's own levels.

        It is taken where the published model takes it: of values standardised by their context,
        under the arcsinh. That bounds the gradient of a stray value, and the package's own loss is
        the mean of this one over the windows, times the number of levels.
        """
        context, target = batch["context"], batch["target"]
        plain = plain_model(model)
        # The network cuts a context that is too long before it standardises it.
        _, loc_scale = plain.instance_norm(context[:, -plain.chronos_config.context_length :])
        forecast = self._forecast(model, context, target.shape[1])  # [B, L, H]
        predicted = plain.instance_norm(forecast.flatten(1), loc_scale)[0].view_as(forecast)
        wanted, _ = plain.instance_norm(target, loc_scale)  # [B, H]
        return window_pinball(predicted, wanted, plain.quantiles)

    def predict_quantiles(
        self, model: torch.nn.Module, batch: Batch, horizon_steps: int, levels: Sequence[float]
    ) -> torch.Tensor:
        """Give quantiles [B, H, Q]; levels between the model's own are interpolated linearly."""
        forecast = self._forecast(model, batch["context"], horizon_steps).float().movedim(1, 2)
        asked = _at_levels(forecast, plain_model(model).chronos_config.quantiles, levels)
        # Quantiles are trained one by one and may cross: sorted, they are a distribution again.
        ordered = asked.sort(dim=2).values
        return ordered * batch["scale"][:, None, None] + batch["offset"][:, None, None]

    def facts(self, model: torch.nn.Module) -> dict[str, str]:
        """Say what is Chronos-2's own."""
        settings = plain_model(model).chronos_config
        number = len(settings.quantiles)
        space = "the arcsinh of " if settings.use_arcsinh else ""
        return {
            "loss": f"pinball loss at {number} quantiles, in {space}units of the context's "
            "deviation",
            "input": f"patches of {settings.input_patch_size} steps",
            "forecast": f"{number} quantiles of every step at once",
        }

    def lora_targets(self, scope: str) -> str:
        """Give the projections of the time attention, or of the feed-forward layers too."""
        return _ATTENTION if scope == "attention" else f"({_ATTENTION}|{_FEED_FORWARD})"

    @staticmethod
    def _forecast(
        model: torch.nn.Module, context: torch.Tensor, horizon_steps: int
    ) -> torch.Tensor:
        """Return [B, L, H] at the model's own L levels, in units of the scale floor."""
        settings = plain_model(model).chronos_config
        longest = settings.max_output_patches * settings.output_patch_size
        if horizon_steps > longest:
            raise BackboneError(
                f"this Chronos-2 forecasts at most {longest} steps, got windows.horizon = "
                f"{horizon_steps}"
            )
        output = model(
            context=context,
            group_ids=torch.arange(len(context), device=context.device),
            num_output_patches=-(-horizon_steps // settings.output_patch_size),
        )
        forecast: torch.Tensor = output.quantile_preds[..., :horizon_steps]
        return forecast


def _at_levels(
    quantiles: torch.Tensor, known: Sequence[float], levels: Sequence[float]
) -> torch.Tensor:
    """Interpolate quantiles [..., L] at the `known` levels to [..., Q] at `levels`."""
    outside = [level for level in levels if not known[0] <= level <= known[-1]]
    if outside:
        raise BackboneError(
            f"this Chronos-2 gives quantile levels {known[0]:g} to {known[-1]:g}, got "
            f"{outside[0]:g}"
        )
    place = torch.from_numpy(np.interp(levels, known, np.arange(len(known))))
    low = place.long().clamp(max=len(known) - 2)
    share = (place - low).to(quantiles)
    low = low.to(quantiles.device)
    return torch.lerp(quantiles[..., low], quantiles[..., low + 1], share)


def _check_config(weights: Path) -> None:
    config = read_config(weights)
    architectures = config.get("architectures")
    if "chronos_config" not in config or architectures != ["Chronos2Model"]:
        raise BackboneError(
            f"{weights} is not a Chronos-2 model (architectures {architectures}, expected "
            "['Chronos2Model'])"
        )
