"""FedAvg: the weighted mean of each matrix (McMahan et al., arXiv 1602.05629)."""

from __future__ import annotations

from collections.abc import Mapping

from common.adapter.adapter import Adapter, Matrix
from server.aggregation.tensor_ops import shares, weighted_mean


def fedavg(adapters: Mapping[str, Adapter], weights: Mapping[str, float]) -> dict[str, Matrix]:
    """Average the sites' matrices by name.

    A and B are averaged separately, which is not the average of the products B A; the difference
    shrinks as the sites' matrices converge towards the end of a run.

    Args:
        adapters: the sites' adapters, with the same names and shapes; each is read once.
        weights: the weight of each included site, not negative, with a sum above zero.

    Returns:
        The matrices in float32. Sums run in float64 in the order of the sites' names, so that the
        order of arrival changes no bit.
    """
    return weighted_mean((share, adapters[site].tensors) for site, share in shares(weights).items())
