"""MOIRAI 1: masked patches of the horizon in, a mixture distribution of every step out.

The network is that of the package uni2ts (Woo et al., arXiv 2402.02592), installed by the extra
`moirai`. Inputs are (x - clinical offset) / scale floor of their vital. MOIRAI standardises each
context itself, so this changes nothing in exact arithmetic, but a lower bound of 1 for the scale is
then right for every vital.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from common.backbones.base import Batch, in_scale_units, plain_model
from common.backbones.moirai.mixture import log_density
from common.backbones.moirai.packing import Packed, pack, token_count
from common.data.windows import FloatArray, IntArray
from common.errors import BackboneError

PATCH = 16
"""Steps per token if the network has this patch size, else its shortest.

The published networks have 8 to 128 and were trained with 32 or 64 on hourly series and with 8 on
quarterly ones only. With 32 or 64 a stay of two days would be one or two tokens, and 8 is hardly
trained.
"""


class Moirai:
    """The MOIRAI 1 family; see `common.backbones.base.Backbone`."""

    family = "moirai"
    attention = r".*self_attn\.(q_proj|k_proj|v_proj|out_proj)"
    feed_forward = r".*ffn\.(fc1|fc2|fc_gate)"

    def build(self, weights: Path) -> torch.nn.Module:
        """Load config.json and model.safetensors from a folder, frozen and in eval mode."""
        network: torch.nn.Module = import_weights().read_moirai(weights)
        return network.requires_grad_(False).eval()

    def collate(self, context: FloatArray, target: FloatArray | None, vital: IntArray) -> Batch:
        """Return `context` [B, C] and `target` [B, H] in scale units, `offset` and `scale` [B]."""
        return in_scale_units(context, target, vital)

    def window_loss(self, model: torch.nn.Module, batch: Batch) -> torch.Tensor:
        """Return the negative log-likelihood [B], the mean over observed steps.

        The target is in units of the context's deviation. The package adds the logarithm of that
        deviation, which does not depend on the weights.
        """
        packed, forecast = _forecast(model, batch["context"], batch["target"])
        target = (packed.target - forecast.loc) / forecast.scale
        observed = packed.observed_mask & packed.prediction_mask[:, :, None]
        surprise = -log_density(forecast.base_dist, target)  # [B, N, P]
        count = observed.sum(dim=(1, 2)).clamp(min=1)
        loss: torch.Tensor = torch.where(observed, surprise, 0.0).sum(dim=(1, 2)) / count
        return loss

    def predict_quantiles(
        self, model: torch.nn.Module, batch: Batch, horizon_steps: int, levels: Sequence[float]
    ) -> torch.Tensor:
        """Return the exact quantiles [B, H, Q] of the mixture at any levels, without sampling."""
        from common.backbones.moirai.mixture import mixture_quantiles

        context = batch["context"]
        unknown = context.new_full((len(context), horizon_steps), torch.nan)
        _, forecast = _forecast(model, context, unknown)
        patch = _patch(model)
        past = token_count(context.shape[1], patch)

        def horizon(values: torch.Tensor) -> torch.Tensor:
            return values[:, past:, :patch].flatten(1, 2)[:, :horizon_steps]

        standard = mixture_quantiles(forecast.base_dist, horizon, levels)  # [B, H, Q]
        # A window has one location and scale: those of its last token hold for all its tokens.
        loc, scale = forecast.loc[:, -1:], forecast.scale[:, -1:]
        # Two quantiles may be closer together than the tolerance of the inversion.
        quantiles: torch.Tensor = (standard * scale + loc).sort(dim=2).values
        return quantiles * batch["scale"][:, None, None] + batch["offset"][:, None, None]

    def facts(self, model: torch.nn.Module) -> dict[str, str]:
        """Describe loss, input and forecast in words."""
        return {
            "loss": "negative log-likelihood, in units of the context's deviation",
            "input": f"patches of {_patch(model)} steps, gaps filled with the value before",
            "forecast": "a mixture distribution of every step at once, and its exact quantiles",
        }


def _forecast(
    model: torch.nn.Module, context: torch.Tensor, target: torch.Tensor
) -> tuple[Packed, Any]:
    """Run the network; its forecast has `loc` and `scale` [B, N, 1] and `base_dist` [B, N, P]."""
    network, patch = plain_model(model), _patch(model)
    tokens = token_count(context.shape[1], patch) + token_count(target.shape[1], patch)
    if tokens > network.max_seq_len:
        raise BackboneError(
            f"this MOIRAI takes at most {network.max_seq_len} patches of {patch} steps, got "
            f"windows.context = {context.shape[1]} and windows.horizon = {target.shape[1]}"
        )
    packed = pack(context, target, patch, max(network.patch_sizes))
    return packed, model(**packed._asdict())


def _patch(model: torch.nn.Module) -> int:
    sizes: tuple[int, ...] = plain_model(model).patch_sizes
    return PATCH if PATCH in sizes else min(sizes)


def import_weights() -> ModuleType:
    """Import the loader and with it uni2ts, which takes ten seconds and 375 MB.

    Raises:
        BackboneError: uni2ts is not installed.
    """
    try:
        from common.backbones.moirai import weights as moirai_weights
    except ImportError as error:
        raise BackboneError(
            f"MOIRAI needs the package uni2ts ({error}); install the extra: "
            'pip install "fedvitals[moirai]"'
        ) from error
    return moirai_weights
