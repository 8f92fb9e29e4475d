"""The pinball loss of each window, which the families that forecast quantiles are trained by."""

from __future__ import annotations

import torch


def window_pinball(
    forecast: torch.Tensor, target: torch.Tensor, levels: torch.Tensor
) -> torch.Tensor:
    """Return each window's own mean over its observed steps and all levels, ``[B]``.

    Args:
        forecast: ``[B, Q, H]``.
        target: ``[B, H]``, NaN = not observed; a window without observed steps costs 0.
        levels: ``[Q]``, of the quantiles.

    Returns:
        Twice the pinball loss, which at level .5 is the absolute error.
    """
    observed = ~torch.isnan(target)
    error = torch.where(observed, target, 0.0)[:, None] - forecast
    level = levels[:, None]
    pinball = 2.0 * torch.maximum(level * error, (level - 1.0) * error).mean(dim=1)  # [B, H]
    count = observed.sum(dim=1).clamp(min=1)
    return torch.where(observed, pinball, 0.0).sum(dim=1) / count
