"""MOIRAI 2: patches of the context in, quantiles of the patches after the last one out.

The network is that of the package uni2ts (Liu et al., arXiv 2511.11698), installed by the extra
`moirai`. It differs from MOIRAI 1: the attention is causal, a patch marks which of its values were
measured, and the forecast is nine quantiles. Inputs are those of `common.backbones.moirai.moirai`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from common.backbones.base import Batch, plain_model, window_pinball
from common.backbones.moirai.moirai import Moirai, import_weights
from common.backbones.moirai.packing import causal_mean, pack, token_count
from common.errors import BackboneError


class Moirai2(Moirai):
    """The MOIRAI 2 family; see `common.backbones.base.Backbone`."""

    family = "moirai-2"

    def build(self, weights: Path) -> torch.nn.Module:
        """Load config.json and model.safetensors from a folder, frozen and in eval mode."""
        network: torch.nn.Module = import_weights().read_moirai2(weights)
        return network.requires_grad_(False).eval()

    def window_loss(self, model: torch.nn.Module, batch: Batch) -> torch.Tensor:
        """Return the pinball loss [B] over observed steps and levels, in the context's scale."""
        target = batch["target"]
        forecast, scale = _forecast(model, batch["context"], target.shape[1])  # [B, H, Q], [B, 1]
        levels = torch.tensor(plain_model(model).quantile_levels, device=target.device)
        return window_pinball(forecast.movedim(2, 1), target, levels) / scale.squeeze(1)

    def predict_quantiles(
        self, model: torch.nn.Module, batch: Batch, horizon_steps: int, levels: Sequence[float]
    ) -> torch.Tensor:
        """Return quantiles [B, H, Q]; the levels must be among the network's."""
        known = list(plain_model(model).quantile_levels)
        unknown = [level for level in levels if level not in known]
        if unknown:
            raise BackboneError(
                f"this MOIRAI 2 gives the quantile levels {', '.join(map(str, known))}, got "
                f"{unknown[0]:g}"
            )
        forecast, _ = _forecast(model, batch["context"], horizon_steps)
        # Quantiles are trained one by one and may cross: sorted, they are a distribution again.
        ordered = forecast.sort(dim=2).values[..., [known.index(level) for level in levels]]
        return ordered * batch["scale"][:, None, None] + batch["offset"][:, None, None]

    def facts(self, model: torch.nn.Module) -> dict[str, str]:
        """Describe loss, input and forecast in words."""
        network = plain_model(model)
        count = len(network.quantile_levels)
        return {
            "loss": f"pinball loss at {count} quantiles, in units of the context's deviation",
            "input": f"patches of {network.patch_size} steps, gaps filled with the mean before",
            "forecast": f"{count} quantiles of every step at once",
        }


def _forecast(
    model: torch.nn.Module, context: torch.Tensor, horizon_steps: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return quantiles [B, H, Q] in units of the scale floor, and the context's scale [B, 1]."""
    network: Any = plain_model(model)
    patch = network.patch_size
    longest = network.num_predict_token * patch
    if horizon_steps > longest:
        raise BackboneError(
            f"this MOIRAI 2 forecasts at most {longest} steps, got windows.horizon = "
            f"{horizon_steps}"
        )
    if token_count(context.shape[1], patch) > network.max_seq_len:
        raise BackboneError(
            f"this MOIRAI 2 takes at most {network.max_seq_len} patches of {patch} steps, got "
            f"windows.context = {context.shape[1]}"
        )
    # Attention is causal: tokens of the horizon could not change what the last patch forecasts.
    packed = pack(context, context[:, :0], patch, patch, causal_mean)
    tensors = packed._asdict()
    tensors.pop("patch_size")
    scale = network.scaler(
        packed.target, packed.observed_mask, packed.sample_id, packed.variate_id
    )[1][:, -1]
    last = model(**tensors, training_mode=False)[:, -1]
    patches = last.reshape(len(last), network.num_predict_token, network.num_quantiles, patch)
    forecast: torch.Tensor = patches.transpose(2, 3).flatten(1, 2)[:, :horizon_steps]
    return forecast, scale
