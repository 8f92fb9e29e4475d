"""Clipping: no patient's part of a step is longer than C, whatever the gradient holds.

Norms and factors are in double precision, and each norm is taken of the gradient over its largest
number. So nothing can vanish when it is squared: a norm that came out too small would make the
factor too large, and the patient's part too long. Where a number is in doubt the part is zero.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

LEAST_CLIP_NORM, MOST_CLIP_NORM = 1e-150, 1e150
"""Outside of it double precision has no digits to spare, and every part is zero."""

_LEAST_FACTOR = 1e-290
"""A smaller one has lost digits, and could come out too large."""

_BELOW_ONE = 1.0 - 1e-8
"""On every factor: more than what rounding adds to the norm of a hundred million numbers."""


def clip_factors(gradients: Mapping[str, Tensor], clip_norm: float) -> Tensor:
    """Return what each patient's gradient is to be multiplied by, [P], in double precision.

    Args:
        gradients: by name, ``[P, out, in]``, in single or double precision.
        clip_norm: C.

    Returns:
        At most C over the norm over all matrices together, at most 1. Zero for a gradient that is
        not finite, or 1e290 times too long: the patient's part is then nothing, the others' is
        untouched, and nothing shows. An error, or a step left out, would tell that such a patient
        is there, and no noise would hide it.
    """
    parts = [widened(gradient).flatten(1) for gradient in gradients.values()]
    largest = torch.stack([part.abs().amax(dim=1) for part in parts]).amax(dim=0)  # [P]
    # Of a gradient of zeros, or none: any scale will do.
    scale = torch.where(largest > 0.0, largest, 1.0)
    squares = torch.stack([(part / scale[:, None]).square().sum(dim=1) for part in parts])
    norm = squares.sum(dim=0).sqrt()  # in units of the largest number: 1 or a little more
    factor = (clip_norm * _BELOW_ONE / scale / norm.clamp(min=1.0)).clamp(max=1.0)
    sound = torch.isfinite(largest) & torch.isfinite(norm) & (factor >= _LEAST_FACTOR)
    if not LEAST_CLIP_NORM <= clip_norm <= MOST_CLIP_NORM:
        sound = torch.zeros_like(sound)
    return torch.where(sound, factor, 0.0)


def clipped(gradient: Tensor, factors: Tensor) -> Tensor:
    """Return the patients' parts of one matrix, ``[P, out, in]``, in double precision.

    Args:
        gradient: ``[P, out, in]``.
        factors: of `clip_factors`, ``[P]``.
    """
    factors = factors[:, None, None]
    # Zero times infinity is no number.
    return torch.where(factors > 0.0, widened(gradient) * factors, 0.0)


def widened(gradient: Tensor) -> Tensor:
    """Return a tensor in double precision; of a device that has none, on the CPU."""
    return (gradient.cpu() if gradient.device.type == "mps" else gradient).double()
