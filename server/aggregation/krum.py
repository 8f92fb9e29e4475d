"""Krum and Multi-Krum: keep the sites that lie near most others (Blanchard et al., NeurIPS 2017).

Two adapters are as far apart as their updates of the weights, ``s B A`` with s = alpha / r: pairs
that differ and have the same product are at distance zero. No product is ever formed: with P = s B
A, ``<P_i, P_j> = s_i s_j sum((B_i^T B_j) * (A_i A_j^T))``, a sum over r x r numbers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from common.adapter import Adapter
from common.errors import FederationError
from server.aggregation.blocks import blocks

Distances = npt.NDArray[np.float64]


def krum(adapters: Mapping[str, Adapter], previous: Adapter, byzantine: int) -> list[str]:
    """Rank the sites: the one nearest to most others comes first.

    A site's score is the sum of its squared distances to the ``n - f - 2`` sites nearest to it; of
    n sites, f may be arbitrary. Sites count the same, whatever their weights: a weight that a site
    chooses would be a lever.

    Args:
        adapters: the sites' adapters, of one layout; each is read once a block of layers.
        previous: the adapter that the round began with.
        byzantine: f, how many sites may be arbitrary.

    Returns:
        The sites by rising score; equal scores in the order of the names. Krum takes the first,
        Multi-Krum averages the first n - f.

    Raises:
        FederationError: where there are fewer than 2 f + 3 sites.
    """
    sites = sorted(adapters)
    if len(sites) < 2 * byzantine + 3:
        raise FederationError(
            f"krum with aggregation.byzantine = {byzantine} needs {2 * byzantine + 3} sites, "
            f"this round has {len(sites)}; lower aggregation.byzantine, raise "
            "federation.min-sites, or set aggregation.rule = median"
        )
    distances = squared_distances(adapters, previous)
    nearest = len(sites) - byzantine - 2
    # The first of each sorted row is the site itself.
    scores = np.sort(distances, axis=1)[:, 1 : 1 + nearest].sum(axis=1)
    return [sites[place] for place in np.argsort(scores, kind="stable")]


def squared_distances(adapters: Mapping[str, Adapter], previous: Adapter) -> Distances:
    """Return ``||P_i - P_j||^2`` over all layers, [sites, sites], in the order of the names.

    Args:
        adapters: the sites' adapters; each is read once a block of layers.
        previous: an adapter with the same layers.
    """
    sites = sorted(adapters)

    def cost(module: str) -> int:
        return 2 * len(sites) * sum(matrix.nbytes for matrix in previous.pair(module))

    inner = np.zeros((len(sites), len(sites)))
    for block in blocks(previous.modules, cost):
        pairs: dict[str, list[tuple[Distances, Distances]]] = {module: [] for module in block}
        for site in sites:
            adapter = adapters[site]
            for module in block:
                a, b = adapter.pair(module)
                scaled = adapter.scaling * b.astype(np.float64)
                pairs[module].append((a.astype(np.float64), scaled))
        for module in block:
            inner += _inner_products(pairs.pop(module))
    norms = np.diagonal(inner)
    distances = np.maximum(norms[:, None] + norms[None, :] - 2 * inner, 0.0)
    np.fill_diagonal(distances, 0.0)
    return distances


def _inner_products(pairs: Sequence[tuple[Distances, Distances]]) -> Distances:
    """``<B_i A_i, B_j A_j>`` of one layer, [sites, sites]; a row of sites at a time."""
    every_a = np.concatenate([a for a, _ in pairs])  # [all ranks, in]
    every_b = np.concatenate([b.T for _, b in pairs])  # [all ranks, out]
    starts = np.cumsum([0, *(len(a) for a, _ in pairs[:-1])])
    rows = [
        np.add.reduceat(((b.T @ every_b.T) * (a @ every_a.T)).sum(axis=0), starts) for a, b in pairs
    ]
    inner = np.array(rows)
    # The two halves may differ in the last bit.
    return (inner + inner.T) / 2
