"""Windows as MOIRAI's tokens: patches of the context, then masked patches of the horizon.

One window is one row of the batch and one variate; nothing is packed across windows. The layout is
that of uni2ts' `MoiraiForecast` (Woo et al., arXiv 2402.02592), with one difference: MOIRAI 1 has
no input for missing values. The package fills them with 0, far outside the range of any vital sign;
here the last observed value is carried forward. Filled steps do not count in the window's location
and scale.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch.nn.functional import pad


class Packed(NamedTuple):
    """Arguments of the network's `forward`; N tokens, P the longest patch that it has.

    Attributes:
        target: ``[B, N, P]``, values; finite everywhere.
        observed_mask: ``[B, N, P]``, True = measured.
        sample_id: ``[B, N]``, 0 for tokens before the first measurement, else 1.
        time_id: ``[B, N]``, position from the first token with a measurement.
        variate_id: ``[B, N]``, all 0: one vital sign per window.
        prediction_mask: ``[B, N]``, True = token of the horizon.
        patch_size: ``[B, N]``, number of a token's P values that are used.
    """

    target: torch.Tensor
    observed_mask: torch.Tensor
    sample_id: torch.Tensor
    time_id: torch.Tensor
    variate_id: torch.Tensor
    prediction_mask: torch.Tensor
    patch_size: torch.Tensor


def token_count(steps: int, patch: int) -> int:
    """Return the number of patches for this many steps."""
    return -(-steps // patch)


def pack(
    context: torch.Tensor,
    target: torch.Tensor,
    patch: int,
    longest: int,
    fill: Callable[[torch.Tensor], torch.Tensor] | None = None,
) -> Packed:
    """Lay out windows as tokens.

    Args:
        context: ``[B, C]``, NaN = not measured. Patches are aligned to the end of the context, so
            that NaN on the left changes nothing.
        target: ``[B, H]`` likewise; all NaN for a forecast.
        patch: steps per token.
        longest: P, the longest patch of the network.
        fill: fills the gaps of the context; `carry_forward` when None.
    """
    context = pad(context, (-context.shape[1] % patch, 0), value=torch.nan)
    target = pad(target, (0, -target.shape[1] % patch), value=torch.nan)
    past, future = context.shape[1] // patch, target.shape[1] // patch
    steps = torch.cat([context, target], dim=1)
    values = torch.cat([(fill or carry_forward)(context), target.nan_to_num(0.0)], dim=1)
    observed = _patches(~torch.isnan(steps), patch)  # [B, N, patch]

    started = observed[:, :past].any(dim=2).long().cummax(dim=1).values  # [B, past]
    past_id = (started.cumsum(dim=1) - 1).clamp(min=0)
    ahead = torch.arange(1, future + 1, device=context.device)
    time_id = torch.cat([past_id, past_id[:, -1:] + ahead], dim=1)
    prediction = torch.arange(past + future, device=context.device) >= past
    return Packed(
        target=pad(_patches(values, patch), (0, longest - patch)),
        observed_mask=pad(observed, (0, longest - patch)),
        sample_id=torch.cat([started, started.new_ones(len(started), future)], dim=1),
        time_id=time_id,
        variate_id=torch.zeros_like(time_id),
        prediction_mask=prediction.expand(len(context), -1),
        patch_size=torch.full_like(time_id, patch),
    )


def carry_forward(values: torch.Tensor) -> torch.Tensor:
    """Fill gaps ``[B, T]`` with the value before, the gap at the start with the first value.

    A row without any value becomes 0.
    """
    observed = ~torch.isnan(values)
    steps = torch.arange(values.shape[1], device=values.device)
    last = torch.where(observed, steps, -1).cummax(dim=1).values
    first = observed.long().argmax(dim=1, keepdim=True)
    return values.gather(1, torch.where(last < 0, first, last)).nan_to_num(0.0)


def causal_mean(values: torch.Tensor) -> torch.Tensor:
    """Fill gaps ``[B, T]`` with the mean of all steps before, as MOIRAI 2 was pretrained.

    The mean is that of the series with its gaps carried forward, from the first value on; the gap
    at the start becomes that first value. A row without any value becomes 0.
    """
    observed = ~torch.isnan(values)
    carried = carry_forward(values)
    begun = observed.long().cummax(dim=1).values  # [B, T], 1 from the first value on
    before = (carried * begun).cumsum(dim=1) - carried * begun
    count = (begun.cumsum(dim=1) - begun).clamp(min=1)
    return torch.where(observed | (begun == 0), carried, before / count)


def _patches(steps: torch.Tensor, patch: int) -> torch.Tensor:
    return steps.reshape(len(steps), -1, patch)
