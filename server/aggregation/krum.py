"""Krum and Multi-Krum: keep the sites nearest to most others (Blanchard et al., NeurIPS 2017).

The distance of two adapters combines their products and their factors: with ``s = alpha / r``,

    d^2 = ||s B_i A_i - s B_j A_j||^2 + ||s B_i - s B_j||^2 + ||A_i - A_j||^2.

The products alone do not suffice: (c A, B / c) has the product of (A, B) for any c, but the chosen
sites' factors are averaged by name, and a huge A in that mean gives a huge product. No product is
formed: ``<B_i A_i, B_j A_j>`` is the sum over ``(B_i^T B_j) * (A_i A_j^T)``, r x r numbers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from common.adapter.adapter import Adapter
from common.adapter.low_rank import Array
from common.errors import FederationError
from server.aggregation.tensor_ops import blocks

_GRAM_ROWS = 256
"""Rows of the Gram matrices per step: a compromise of speed and memory."""


def krum(adapters: Mapping[str, Adapter], previous: Adapter, byzantine: int) -> list[str]:
    """Rank the sites by their Krum score, lowest first.

    A site's score is the sum of its squared distances to the ``n - f - 2`` sites nearest to it,
    where f of the n sites may be Byzantine. Weights are ignored, since a hostile site could raise
    its own.

    Args:
        adapters: the sites' adapters, of one layout; each is read once per block of layers.
        previous: the adapter at the start of the round.
        byzantine: f, the number of Byzantine sites to tolerate.

    Returns:
        The sites by rising score, equal scores by name. Krum takes the first, Multi-Krum averages
        the first n - f.

    Raises:
        FederationError: fewer than 2 f + 3 sites.
    """
    sites = sorted(adapters)
    check_krum_sites(len(sites), byzantine, "this round has")
    distances = squared_distances(adapters, previous)
    nearest = len(sites) - byzantine - 2
    # The first of each sorted row is the site itself.
    scores = np.sort(distances, axis=1)[:, 1 : 1 + nearest].sum(axis=1)
    return [sites[place] for place in np.argsort(scores, kind="stable")]


def check_krum_sites(sites: int, byzantine: int, what: str) -> None:
    """Refuse fewer than 2 f + 3 sites.

    Args:
        sites: their number.
        byzantine: f.
        what: words before the number in the message.

    Raises:
        FederationError: there are fewer.
    """
    if sites >= 2 * byzantine + 3:
        return
    most = (sites - 3) // 2
    lower = f"set aggregation.byzantine to at most {most}" if most >= 0 else "it needs 3 or more"
    raise FederationError(
        f"krum with aggregation.byzantine = {byzantine} needs {2 * byzantine + 3} sites, "
        f"{what} {sites}; {lower}, add sites, or set aggregation.rule = median"
    )


def squared_distances(adapters: Mapping[str, Adapter], previous: Adapter) -> Array:
    """Return d^2 summed over all layers, [sites, sites], in the order of the sites' names.

    Args:
        adapters: the sites' adapters, of one layout; each is read once per block of layers.
        previous: an adapter of the same layout.
    """
    sites = sorted(adapters)

    def cost(module: str) -> int:
        # float64 doubles the bytes, and `_inner_products` concatenates a second copy.
        return 4 * len(sites) * sum(matrix.nbytes for matrix in previous.pair(module))

    inner = np.zeros((len(sites), len(sites)))
    for block in blocks(previous.modules, cost):
        pairs: dict[str, list[tuple[Array, Array]]] = {module: [] for module in block}
        for site in sites:
            adapter = adapters[site]
            for module in block:
                a, b = adapter.pair(module)
                scaled = adapter.scaling * b.astype(np.float64)
                pairs[module].append((a.astype(np.float64), scaled))
        for module in block:
            inner += _inner_products(pairs.pop(module))
    norms = np.diagonal(inner)
    distances: Array = np.maximum(norms[:, None] + norms[None, :] - 2 * inner, 0.0)
    np.fill_diagonal(distances, 0.0)
    return distances


def _inner_products(pairs: Sequence[tuple[Array, Array]]) -> Array:
    """The sites' inner products of one layer, [sites, sites], from which d^2 follows."""
    sites, rank = len(pairs), len(pairs[0][0])
    every_a = np.concatenate([a for a, _ in pairs])  # [sites * r, in]
    every_b = np.concatenate([b.T for _, b in pairs])  # [sites * r, out]
    inner = np.zeros((sites, sites))
    rows = max(1, _GRAM_ROWS // rank)
    for start in range(0, sites, rows):
        # Upper triangle only; the matrix is symmetric.
        mine, theirs = slice(start * rank, (start + rows) * rank), slice(start * rank, None)
        grams_a = (every_a[mine] @ every_a[theirs].T).reshape(-1, rank, sites - start, rank)
        grams_b = (every_b[mine] @ every_b[theirs].T).reshape(-1, rank, sites - start, rank)
        block = np.einsum("irjr->ij", grams_a) + np.einsum("irjr->ij", grams_b)
        grams_a *= grams_b
        inner[start : start + rows, start:] = block + grams_a.sum(axis=3).sum(axis=1)
    upper: Array = np.triu(inner)
    return upper + np.triu(inner, 1).T
