"""Best rank-r adapter for a given matrix or adapter, ready for further training.

By Eckart and Young, no adapter of rank r is nearer to a matrix (in the Frobenius norm) than its
first r singular directions.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from common.adapter.adapter import Adapter, Matrix, tensor_name
from common.adapter.low_rank import Array, LowRankSum, Singular
from common.errors import AdapterError

_DEAD_ROW = 0.1
"""A row of A shorter than this share of the root-mean-square row length is rescaled."""


def truncate(adapter: Adapter, rank: int) -> Adapter:
    """Return the best lower-rank version of an adapter, for a site that trains that rank.

    Args:
        adapter: the global adapter.
        rank: the site's rank r_k.

    Returns:
        An adapter of rank r_k with ``alpha_k = alpha r_k / r``: the scaling is the run's, so that a
        learning rate means the same at every site.

    Raises:
        AdapterError: the rank is not from 1 to the adapter's.
    """
    if not 1 <= rank <= adapter.rank:
        raise AdapterError(
            f"a site asks for rank {rank}, the run has {adapter.rank}; set lora-rank at the site "
            f"from 1 to {adapter.rank}"
        )
    if rank == adapter.rank:
        return adapter
    tensors: dict[str, Matrix] = {}
    for module in adapter.modules:
        a, b = adapter.pair(module)
        product = LowRankSum(b.shape[0], a.shape[1])
        product.add(1.0, b, a)
        lower = trainable_pair(product.svd(), rank, a)
        tensors[tensor_name(module, "A")], tensors[tensor_name(module, "B")] = lower
    return replace(adapter, tensors=tensors, rank=rank, alpha=adapter.alpha * rank / adapter.rank)


def trainable_pair(found: Singular, rank: int, previous_a: Matrix) -> tuple[Matrix, Matrix]:
    """Return A [rank, in] and B [out, rank] whose product is nearest to a decomposed matrix.

    Both take the square root of the singular values, so that neither outgrows the other over the
    rounds. For a zero singular value B is zero and A takes the row of the previous A, as in a fresh
    adapter: with both zero the pair has no gradient and would never train again.

    Args:
        found: singular value decomposition of the matrix, without the adapter's scaling.
        rank: rank of the result, at most that of `previous_a`.
        previous_a: A [r, in] of the adapter that the result replaces.
    """
    kept = min(rank, len(found.s))
    root = np.sqrt(found.s[:kept])
    a = _rescale_dead_rows(previous_a.astype(np.float64))[:rank]
    a[:kept] = root[:, None] * found.v[:kept]
    b = np.zeros((found.u.shape[0], rank))
    b[:, :kept] = found.u[:, :kept] * root
    return a.astype(np.float32), b.astype(np.float32)


def _rescale_dead_rows(a: Array) -> Array:
    """Scale the rows of A that are far too short to the root-mean-square row length."""
    lengths = np.linalg.norm(a, axis=1)
    typical = float(np.sqrt(np.mean(np.square(lengths)))) or 1.0
    for row in np.flatnonzero(lengths < _DEAD_ROW * typical):
        if lengths[row] == 0:
            a[row, row % a.shape[1]] = typical
        else:
            a[row] *= typical / lengths[row]
    return a
