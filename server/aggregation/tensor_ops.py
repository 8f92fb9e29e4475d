"""The weighted mean of named matrices, site after site: two adapters' memory for any number."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import numpy.typing as npt

from common.adapter.adapter import Matrix


def weighted_mean(
    sites: Iterable[tuple[float, Mapping[str, Matrix]]],
) -> dict[str, Matrix]:
    """Average matrices by name.

    Sums run in float64, in the order given. Their relative error is that of as many roundings as
    there are sites, 1e-16 each, far below half a step of float32: the mean of equal matrices is
    that matrix, bit for bit.

    Args:
        sites: each site's share and its matrices, with the same names and shapes throughout; the
            shares sum to one; at least one site.

    Returns:
        The means in float32.
    """
    total: dict[str, npt.NDArray[np.float64]] = {}
    for share, matrices in sites:
        for name, matrix in matrices.items():
            if name in total:
                total[name] += share * matrix.astype(np.float64)
            else:
                # Not added to zeros: 0.0 + -0.0 is 0.0, which is another bit pattern.
                total[name] = share * matrix.astype(np.float64)
    return {name: mean.astype(np.float32) for name, mean in total.items()}


def shares(weights: Mapping[str, float]) -> dict[str, float]:
    """Return the weights divided by their sum, in the order of the sites' names."""
    sites = sorted(weights)
    total = sum(weights[site] for site in sites)
    return {site: weights[site] / total for site in sites}
