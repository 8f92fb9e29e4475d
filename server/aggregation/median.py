"""The coordinate-wise median (Yin et al., arXiv 1803.01498).

Fewer than half of the sites cannot move it outside the range of the others' values.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from common.adapter.adapter import Adapter, Matrix
from server.aggregation.tensor_ops import coordinate_wise


def median(adapters: Mapping[str, Adapter], previous: Adapter) -> dict[str, Matrix]:
    """Return the median over the sites of each coordinate of A and of B.

    The bound holds for each coordinate of A and of B, and so bounds their product. Weights are
    ignored, since a hostile site could raise its own. As with FedAvg, the product of the medians is
    not the median of the products B A.

    Args:
        adapters: the sites' adapters, of one layout; each is read once per block of layers.
        previous: the adapter at the start of the round.

    Returns:
        The matrices in float32; with an even number of sites, the mean of the middle two values.
    """
    return coordinate_wise(adapters, previous, _middle)


def _middle(ordered: Matrix) -> npt.NDArray[np.float64]:
    """The middle of [sites, …], sorted over the sites."""
    low, high = ordered[(len(ordered) - 1) // 2], ordered[len(ordered) // 2]
    middle: npt.NDArray[np.float64] = (low.astype(np.float64) + high) / 2
    return middle
