"""Per-patient gradient clipping: no contribution to a step has a norm above C.

Norms and factors are in double precision, and each norm is of the gradient divided by its largest
magnitude, so that no square underflows: a norm that is too small would make the factor too large,
and the contribution too long. Where a value cannot be computed safely the contribution is zero.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

LEAST_CLIP_NORM, MOST_CLIP_NORM = 1e-150, 1e150
"""Range of clip norms that double precision covers; outside it every contribution is zero."""

_LEAST_FACTOR = 1e-290
"""Smaller factors are near the subnormals, have lost digits, and could be too large."""

_BELOW_ONE = 1.0 - 1e-8
"""Margin on every factor: more than the rounding error of a norm of a hundred million numbers."""


def clip_factors(gradients: Mapping[str, Tensor], clip_norm: float) -> Tensor:
    """Return the clipping factor of each patient, [P], in double precision.

    Args:
        gradients: by name, ``[P, out, in]``, in single or double precision.
        clip_norm: C.

    Returns:
        min(1, C / norm), the norm over all matrices together, rounded down. Zero for a gradient
        that is not finite, or 1e290 times too long: the patient then contributes nothing, and the
        others' contributions do not change. An error, or a skipped step, would reveal that such a
        patient is in the table, and no noise would cover it.
    """
    parts = [widened(gradient).flatten(1) for gradient in gradients.values()]
    largest = torch.stack([part.abs().amax(dim=1) for part in parts]).amax(dim=0)  # [P]
    # For a gradient of zeros any scale is valid.
    scale = torch.where(largest > 0.0, largest, 1.0)
    squares = torch.stack([(part / scale[:, None]).square().sum(dim=1) for part in parts])
    norm = squares.sum(dim=0).sqrt()  # in units of the largest number: 1 or a little more
    factor = (clip_norm * _BELOW_ONE / scale / norm.clamp(min=1.0)).clamp(max=1.0)
    sound = torch.isfinite(largest) & torch.isfinite(norm) & (factor >= _LEAST_FACTOR)
    if not LEAST_CLIP_NORM <= clip_norm <= MOST_CLIP_NORM:
        sound = torch.zeros_like(sound)
    return torch.where(sound, factor, 0.0)


def clipped(gradient: Tensor, factors: Tensor) -> Tensor:
    """Return the clipped gradients of one matrix, ``[P, out, in]``, in double precision.

    Args:
        gradient: ``[P, out, in]``.
        factors: result of `clip_factors`, ``[P]``.
    """
    factors = factors[:, None, None]
    # Zero times infinity is NaN.
    return torch.where(factors > 0.0, widened(gradient) * factors, 0.0)


def widened(gradient: Tensor) -> Tensor:
    """Return a tensor in double precision; on the CPU where the device (MPS) has none."""
    return (gradient.cpu() if gradient.device.type == "mps" else gradient).double()
