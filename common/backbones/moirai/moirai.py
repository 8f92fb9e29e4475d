"""MOIRAI 1: masked patches of the horizon in, a mixture distribution of every step out.

The network is uni2ts' own (Woo et al., arXiv 2402.02592), through the extra `moirai`. Values go in
as (x - clinical offset) / scale floor of their vital. MOIRAI standardises each context itself, so
this changes nothing in exact arithmetic, but it makes one floor of 1 right for every vital.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from common.backbones.base import Batch, in_scale_units, plain_model
from common.backbones.moirai.packing import Packed, pack, token_count
from common.backbones.moirai.quantiles import log_density
from common.data.windows import FloatArray, IntArray
from common.errors import BackboneError

PATCH = 16
"""Steps of a token where the network knows this patch, else the shortest that it knows.

The published networks know 8 to 128, chose 32 or 64 for hourly series, and 8 for quarterly ones
only: a stay of two days would be one or two tokens of those for hours, and 8 is hardly trained.
"""

_ATTENTION = r".*self_attn\.(q_proj|k_proj|v_proj|out_proj)"
_FEED_FORWARD = r".*ffn\.(fc1|fc2|fc_gate)"


class Moirai:
    """The family; see `common.backbones.base.Backbone`."""

    family = "moirai"

    def build(self, weights: Path) -> torch.nn.Module:
        """Load a folder as on the hub: config.json and model.safetensors, frozen, in eval mode."""
        network: torch.nn.Module = import_weights().read_moirai(weights)
        return network.requires_grad_(False).eval()

    def collate(self, context: FloatArray, target: FloatArray | None, vital: IntArray) -> Batch:
        """Give `context` [B, C], `target` [B, H] in units of the scale floor, `offset`, `scale`."""
        return in_scale_units(context, target, vital)

    def window_loss(self, model: torch.nn.Module, batch: Batch) -> torch.Tensor:
        """Give the negative log-likelihood [B], a mean over observed steps.

        It is that of the target in units of the context's deviation; the package adds the
        logarithm of that deviation, which no weight can change.
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
        """Give the quantiles [B, H, Q] of the mixture itself, at any levels; nothing is drawn."""
        from common.backbones.moirai.quantiles import mixture_quantiles

        context = batch["context"]
        unknown = context.new_full((len(context), horizon_steps), torch.nan)
        _, forecast = _forecast(model, context, unknown)
        patch = _patch(model)
        past = token_count(context.shape[1], patch)

        def horizon(values: torch.Tensor) -> torch.Tensor:
            return values[:, past:, :patch].flatten(1, 2)[:, :horizon_steps]

        standard = mixture_quantiles(forecast.base_dist, horizon, levels)  # [B, H, Q]
        # One location and scale a window: those of its last token are those of all its tokens.
        loc, scale = forecast.loc[:, -1:], forecast.scale[:, -1:]
        # Two quantiles may lie closer together than either is exact.
        quantiles: torch.Tensor = (standard * scale + loc).sort(dim=2).values
        return quantiles * batch["scale"][:, None, None] + batch["offset"][:, None, None]

    def facts(self, model: torch.nn.Module) -> dict[str, str]:
        """Say what is MOIRAI's own."""
        return {
            "loss": "negative log-likelihood, in units of the context's deviation",
            "input": f"patches of {_patch(model)} steps, gaps filled with the value before",
            "forecast": "a mixture distribution of every step at once, and its exact quantiles",
        }

    def lora_targets(self, scope: str) -> str:
        """Give the projections of the attention, or of the feed-forward layers too."""
        return _ATTENTION if scope == "attention" else f"({_ATTENTION}|{_FEED_FORWARD})"


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
    """Import what reads a folder, and uni2ts with it: ten seconds and 375 MB.

    Raises:
        BackboneError: where uni2ts is not installed.
    """
    try:
        from common.backbones.moirai import weights as moirai_weights
    except ImportError as error:
        raise BackboneError(
            f"MOIRAI needs the package uni2ts ({error}); install the extra: "
            'pip install "fedvitals[moirai]"'
        ) from error
    return moirai_weights
