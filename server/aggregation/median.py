"""The coordinate-wise median (Yin et al., arXiv 1803.01498).

Fewer than half the sites cannot move it beyond what the others sent.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from common.adapter.adapter import Adapter, Matrix
from server.aggregation.tensor_ops import coordinate_wise


def median(adapters: Mapping[str, Adapter], previous: Adapter) -> dict[str, Matrix]:
    """Take the median over the sites of each coordinate of A and of B, apart.

    The bound holds for each coordinate of A and of B, and so for their product. Sites count the
    same, whatever their weights: a weight that a site chooses would be a lever. The median of A
    and that of B is not that of the products B A, as with FedAvg.

    Args:
        adapters: the sites' adapters, of one layout; each is read once a block of layers.
        previous: the adapter that the round began with.

    Returns:
        The matrices in float32. With an even number of sites, the mean of the middle two.
    """
    return coordinate_wise(adapters, previous, _middle)


def _middle(ordered: Matrix) -> npt.NDArray[np.float64]:
    """The middle of [sites, …], sorted over the sites."""
    low, high = ordered[(len(ordered) - 1) // 2], ordered[len(ordered) // 2]
    middle: npt.NDArray[np.float64] = (low.astype(np.float64) + high) / 2
    return middle
