"""Dynamic time warping: how far two sequences are apart when time may stretch."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


def warping_distance(first: Array, second: Array, length: npt.NDArray[np.integer[Any]]) -> Array:
    """Return the time-normalised dynamic time warping distance of pairs of sequences.

    The symmetric form without slope constraint (table I, P = 0) of Sakoe & Chiba 1978, doi
    10.1109/TASSP.1978.1163055, local cost the absolute difference: a diagonal step counts twice,
    the total is divided by the sum of both lengths. The diagonal path alone would give the mean
    absolute difference, hence the distance is at most that: it forgives what comes a step early
    or late. It must not be compared with distances that grow with the horizon, since they are not
    normalised.

    Args:
        first: ``[N, H]``.
        second: ``[N, H]``, in the same unit.
        length: ``[N]``, how many leading steps of both count; 0 gives distance 0.

    Returns:
        ``[N]``, in the unit of the sequences.
    """
    windows, steps = first.shape
    # total[i, j]: cheapest way to match the first i steps of one with the first j of the other.
    total = np.full((steps + 1, steps + 1, windows), np.inf)
    total[0, 0] = 0.0
    for i in range(steps):
        for j in range(steps):
            cost = np.abs(first[:, i] - second[:, j])
            aside = np.minimum(total[i, j + 1], total[i + 1, j]) + cost
            total[i + 1, j + 1] = np.minimum(total[i, j] + 2.0 * cost, aside)
    # A cell looks at earlier steps only: one table serves windows of every length.
    return np.asarray(total[length, length, np.arange(windows)] / np.maximum(2 * length, 1))
