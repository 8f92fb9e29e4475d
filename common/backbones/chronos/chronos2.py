"""Chronos-2: patches in, 21 quantiles of the whole horizon out, in one pass of an encoder.

The network is that of the package chronos-forecasting (Ansari et al., arXiv 2510.15821). It attends
over time and, within a group of series, over the series; here every window is its own group, so
that no window sees another. Inputs are in units of the scale floor, and the scale of a context is
at least 1, for the reasons given in `common.backbones.chronos.chronos_bolt`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from chronos.chronos2.model import Chronos2Model

from common.backbones.base import Batch, in_scale_units, plain_model, window_pinball
from common.backbones.chronos.chronos_bolt import FlooredInstanceNorm, at_levels
from common.backbones.weights_folder import load_pretrained, read_weights_config
from common.data.windows import FloatArray, IntArray
from common.errors import BackboneError

# PEFT looks for a token embedding, which Chronos-2's class does not name.
Chronos2Model._input_embed_layer = "shared"


class Chronos2:
    """The Chronos-2 family; see `common.backbones.base.Backbone`."""

    family = "chronos-2"
    # The time attention only (`layer.0`). In the group attention (`layer.1`) a window attends to
    # itself alone, so that q and k have no gradient; its tensors are [time, batch, ...], where
    # gradients per window, computed from a layer's inputs and outputs, would mix windows.
    attention = r".*layer\.0\.self_attention\.(q|k|v|o)"
    feed_forward = r".*mlp\.(wi|wo)"

    def build(self, weights: Path) -> torch.nn.Module:
        """Load config.json and model.safetensors from a folder, frozen and in eval mode."""
        _check_config(weights)
        model = load_pretrained("Chronos-2", Chronos2Model, weights)
        settings: Any = model.chronos_config
        model.instance_norm = FlooredInstanceNorm(use_arcsinh=settings.use_arcsinh)
        return model

    def collate(self, context: FloatArray, target: FloatArray | None, vital: IntArray) -> Batch:
        """Return `context` [B, C] and `target` [B, H] in scale units, `offset` and `scale` [B]."""
        return in_scale_units(context, target, vital)

    def window_loss(self, model: torch.nn.Module, batch: Batch) -> torch.Tensor:
        """Return the pinball loss [B] over observed steps and the model's own levels.

        As in the published model, it is computed on the arcsinh of values standardised by their
        context, which bounds the gradient of an outlier. The package's own loss is the mean of this
        one over the windows, times the number of levels.
        """
        context, target = batch["context"], batch["target"]
        plain = plain_model(model)
        # The network truncates a long context before it standardises it.
        _, loc_scale = plain.instance_norm(context[:, -plain.chronos_config.context_length :])
        forecast = self._forecast(model, context, target.shape[1])  # [B, L, H]
        predicted = plain.instance_norm(forecast.flatten(1), loc_scale)[0].view_as(forecast)
        wanted, _ = plain.instance_norm(target, loc_scale)  # [B, H]
        return window_pinball(predicted, wanted, plain.quantiles)

    def predict_quantiles(
        self, model: torch.nn.Module, batch: Batch, horizon_steps: int, levels: Sequence[float]
    ) -> torch.Tensor:
        """Return quantiles [B, H, Q]; levels between the model's own are interpolated linearly."""
        forecast = self._forecast(model, batch["context"], horizon_steps).float().movedim(1, 2)
        requested = at_levels(forecast, plain_model(model).chronos_config.quantiles, levels)
        # Quantiles are trained one by one and may cross: sorted, they are a distribution again.
        ordered = requested.sort(dim=2).values
        return ordered * batch["scale"][:, None, None] + batch["offset"][:, None, None]

    def facts(self, model: torch.nn.Module) -> dict[str, str]:
        """Describe loss, input and forecast in words."""
        settings = plain_model(model).chronos_config
        number = len(settings.quantiles)
        space = "the arcsinh of " if settings.use_arcsinh else ""
        return {
            "loss": f"pinball loss at {number} quantiles, in {space}units of the context's "
            "deviation",
            "input": f"patches of {settings.input_patch_size} steps",
            "forecast": f"{number} quantiles of every step at once",
        }

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


def _check_config(weights: Path) -> None:
    config = read_weights_config(weights)
    architectures = config.get("architectures")
    if "chronos_config" not in config or architectures != ["Chronos2Model"]:
        raise BackboneError(
            f"{weights} is not a Chronos-2 model (architectures {architectures}, expected "
            "['Chronos2Model'])"
        )
