"""Bounds on what chance does: cumulative distributions and shares of a sample."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from server.statistics.binned_counts import Floats


def cumulative_margin(patients: Floats, chance: float) -> Floats:
    """Return how far a sample's cumulative distribution is from the true one, at every point.

    Dvoretzky-Kiefer-Wolfowitz inequality with Massart's constant (Ann. Probab. 18:1269, 1990): the
    margin is exceeded anywhere with a probability of at most `chance`. It holds for binned values.

    Args:
        patients: sizes of the samples, any shape; infinite margin for 0.
        chance: the probability.
    """
    with np.errstate(divide="ignore"):
        return np.asarray(np.sqrt(np.log(2 / chance) / (2 * np.asarray(patients, dtype=float))))


def low_share_probability(
    count: npt.ArrayLike, patients: npt.ArrayLike, share: npt.ArrayLike
) -> Floats:
    """Return a bound on the probability of so low a count if each patient has the given share.

    Chernoff bound ``exp(-n KL(count / n || share))``; 1 where the count is not below the share.

    Args:
        count: patients with the property, any shape.
        patients: all patients n.
        share: the probability of each.
    """
    n, q = np.asarray(patients, dtype=float), np.asarray(share, dtype=float)
    with np.errstate(divide="ignore", invalid="ignore"):
        p = np.where(n > 0, np.asarray(count, dtype=float) / n, 1.0)
        first = np.where(p > 0, p * np.log(p / q), 0.0)
        second = np.where(p < 1, (1 - p) * np.log((1 - p) / (1 - q)), 0.0)
        bound = np.exp(-n * (first + second))
    return np.where((p < q) & (n > 0), bound, 1.0)
