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
    """Average each coordinate of A and of B over the sites without the extreme values.

    Up to `trimmed` Byzantine sites cannot move a coordinate outside the range of the other sites'
    values. Weights are ignored, since a hostile site could raise its own. A and B are averaged
    separately, as with FedAvg.

    Args:
        adapters: the sites' adapters, of one layout; each is read once per block of layers.
        previous: the adapter at the start of the round.
        trimmed: number of values trimmed at either end, see `trimmed_sites`.

    Returns:
        The matrices in float32.
    """

    def kept_mean(ordered: Matrix) -> npt.NDArray[np.float64]:
        """The mean of [sites, …], sorted over the sites, without the trimmed ends."""
        first, *others = ordered[trimmed : len(ordered) - trimmed]
        mean: npt.NDArray[np.float64] = first.astype(np.float64)
        for other in others:
            mean += other
        mean /= 1 + len(others)
        return mean

    return coordinate_wise(adapters, previous, kept_mean)


def trimmed_sites(sites: int, share: float) -> int:
    """Return the number of sites trimmed at either end: the share, rounded up.

    Rounded down, 0.2 of four sites would be none: a plain mean without Byzantine tolerance. At
    least one or two sites are left.
    """
    return min(math.ceil(share * sites - 1e-9), (sites - 1) // 2)
