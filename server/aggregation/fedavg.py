"""FedAvg: the weighted mean of each matrix (McMahan et al., arXiv 1602.05629)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from common.adapter import Adapter, Matrix


def fedavg(adapters: Mapping[str, Adapter], weights: Mapping[str, float]) -> dict[str, Matrix]:
    """Average the sites' matrices by name.

    A and B are averaged apart, which is not the average of the products B A; the difference falls
    as the sites' matrices come together towards the end of a run.

    Args:
        adapters: the sites' adapters, with the same names and shapes; at least one.
        weights: each site's weight, not negative, with a sum above zero.

    Returns:
        The matrices in float32. Sums run in float64 in the order of the sites' names, so that the
        order in which replies arrived changes no bit.
    """
    sites = sorted(adapters)
    total = sum(weights[site] for site in sites)
    averaged: dict[str, Matrix] = {}
    for name in adapters[sites[0]].tensors:
        mean = np.zeros(adapters[sites[0]].tensors[name].shape, np.float64)
        for site in sites:
            mean += (weights[site] / total) * adapters[site].tensors[name]
        averaged[name] = mean.astype(np.float32)
    return averaged
