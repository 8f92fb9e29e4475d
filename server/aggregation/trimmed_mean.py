"""The coordinate-wise trimmed mean (Yin et al., arXiv 1803.01498)."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from common.adapter.adapter import Adapter, Matrix
from server.aggregation.tensor_ops import coordinate_wise


def trimmed_mean(
    adapters: Mapping[str, Adapter], previous: Adapter, trimmed: int
) -> dict[str, Matrix]:
    """Average each coordinate of A and of B, apart, over the sites but the extreme ones.

    As many arbitrary sites as are cut at either end cannot move a coordinate beyond what the other
    sites sent. Sites count the same, whatever their weights: a weight that a site chooses would be
    a lever. A and B are averaged apart, as with FedAvg.

    Args:
        adapters: the sites' adapters, of one layout; each is read once a block of layers.
        previous: the adapter that the round began with.
        trimmed: how many sites are cut at either end, see `trimmed_sites`.

    Returns:
        The matrices in float32.
    """

    def kept_mean(ordered: Matrix) -> npt.NDArray[np.float64]:
        """The mean of [sites, …], sorted over the sites, without both ends."""
        first, *others = ordered[trimmed : len(ordered) - trimmed]
        mean: npt.NDArray[np.float64] = first.astype(np.float64)
        for other in others:
            mean += other
        mean /= 1 + len(others)
        return mean

    return coordinate_wise(adapters, previous, kept_mean)


def trimmed_sites(sites: int, share: float) -> int:
    """Return how many of the sites are cut at either end: the share, rounded up.

    Rounded down, 0.2 of four sites would be none, and the rule a plain mean that withstands
    nothing. One site or two at least are left.
    """
    return min(math.ceil(share * sites - 1e-9), (sites - 1) // 2)
