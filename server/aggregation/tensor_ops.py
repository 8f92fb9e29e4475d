"""The weighted mean of named matrices, site after site: two adapters' memory for any number.

Blocks of layers, for rules that need every site's matrices of a layer at once.

Adapters may lie on disk and be read anew at every look. A rule that goes through all sites once a
block holds one block of each, not all of them.

Every site's value of every coordinate: what the coordinate-wise rules work on.

Weighted sums of the sites' products ``(alpha / r) B A``, layer by layer.

The best adapter of a rank for a given update, ready to be trained further.

By Eckart and Young, no adapter of rank r comes nearer to a matrix than its first r singular
directions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from common.adapter.adapter import Adapter, Matrix, tensor_name
from common.adapter.low_rank import DENSE_FROM, Array, LowRankSum, Singular
from common.errors import AdapterError

BLOCK_BYTES = 96 * 2**20
"""What a rule may hold of all sites' matrices, or of sums over them, at once."""


def blocks(
    modules: Sequence[str], cost: Callable[[str], int], budget: int = BLOCK_BYTES
) -> Iterator[list[str]]:
    """Cut layers into blocks, in their order, each within the budget or of one layer.

    Args:
        modules: the layers' names.
        cost: bytes that a layer takes.
        budget: bytes that a block may take.
    """
    block: list[str] = []
    spent = 0
    for module in modules:
        price = cost(module)
        if block and spent + price > budget:
            yield block
            block, spent = [], 0
        block.append(module)
        spent += price
    if block:
        yield block


def coordinate_wise(
    adapters: Mapping[str, Adapter],
    previous: Adapter,
    rule: Callable[[Matrix], npt.NDArray[np.floating]],
) -> dict[str, Matrix]:
    """Apply a rule to each coordinate of A and of B, over the sites.

    Args:
        adapters: the sites' adapters, of one layout; each is read once a block of layers.
        previous: an adapter of the same layout.
        rule: takes the sites' matrices ``[sites, …]`` sorted over the sites, coordinate by
            coordinate, and returns one matrix.

    Returns:
        The matrices in float32.
    """
    sites = sorted(adapters)

    def cost(module: str) -> int:
        return len(sites) * sum(matrix.nbytes for matrix in previous.pair(module))

    result: dict[str, Matrix] = {}
    for block in blocks(previous.modules, cost):
        names = [tensor_name(module, factor) for module in block for factor in "AB"]
        stacks = {
            name: np.empty((len(sites), *previous.tensors[name].shape), np.float32)
            for name in names
        }
        for place, site in enumerate(sites):
            tensors = adapters[site].tensors
            for name in names:
                stacks[name][place] = tensors[name]
        for name in names:
            stack = stacks.pop(name)
            stack.sort(axis=0)
            result[name] = rule(stack).astype(np.float32)
    return result


_FLOAT64 = 8


def product_sums(
    adapters: Mapping[str, Adapter],
    shares: Mapping[str, float],
    previous: Adapter,
    others: Sequence[tuple[float, Adapter]] = (),
) -> Iterator[tuple[str, LowRankSum]]:
    """Give each layer's ``sum_k w_k (alpha_k / r_k) B_k A_k``, by the layers' names.

    Args:
        adapters: the sites' adapters, of any ranks; each is read once a block of layers.
        shares: each site's w_k, in the order in which they are summed.
        previous: an adapter with the same layers.
        others: further terms with their factors, added last.
    """

    def cost(module: str) -> int:
        rows, columns = _sizes(previous, module)
        width = len(shares) * previous.rank + sum(adapter.rank for _, adapter in others)
        # Stacked factors until they are as wide as that, and the matrix itself from then on.
        width = min(width, int(DENSE_FROM * min(rows, columns)) + 1)
        return _FLOAT64 * max(width, 1) * (rows + columns)

    for block in blocks(previous.modules, cost):
        sums = {module: LowRankSum(*_sizes(previous, module)) for module in block}
        for site, share in shares.items():
            _add(sums, share, adapters[site])
        for factor, adapter in others:
            _add(sums, factor, adapter)
        for module in block:
            # Given away, so that a layer's memory is free before the next one's.
            yield module, sums.pop(module)


def _sizes(previous: Adapter, module: str) -> tuple[int, int]:
    """Out and in of a layer."""
    a, b = previous.pair(module)
    return len(b), len(a[0])


def _add(sums: Mapping[str, LowRankSum], factor: float, adapter: Adapter) -> None:
    for module, total in sums.items():
        a, b = adapter.pair(module)
        total.add(factor * adapter.scaling, b, a)


_DEAD_ROW = 0.1
"""A row of A this much shorter than the others would hold its direction back."""


def truncate(adapter: Adapter, rank: int) -> Adapter:
    """Return the best version of an adapter of a lower rank, for a site that trains that rank.

    Args:
        adapter: the global adapter.
        rank: the site's rank r_k.

    Returns:
        An adapter of rank r_k with ``alpha_k = alpha r_k / r``: the scaling is the run's, so that a
        learning rate means the same at every site.

    Raises:
        AdapterError: where the rank is not from 1 to the adapter's.
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
    """Return A [rank, in] and B [out, rank] whose product is the nearest to a decomposed matrix.

    Both take the root of the singular values, so that neither outgrows the other over the rounds. A
    direction without a value has B zero and the row of the previous A, as an adapter starts out: a
    pair with both zero has no gradient and would be dead for ever.

    Args:
        found: the matrix, with the scaling taken out.
        rank: of the result, at most that of `previous_a`.
        previous_a: A [r, in] of the adapter that the result replaces.
    """
    kept = min(rank, len(found.s))
    root = np.sqrt(found.s[:kept])
    a = _live_rows(previous_a.astype(np.float64))[:rank]
    a[:kept] = root[:, None] * found.v[:kept]
    b = np.zeros((found.u.shape[0], rank))
    b[:, :kept] = found.u[:, :kept] * root
    return a.astype(np.float32), b.astype(np.float32)


def _live_rows(a: Array) -> Array:
    """The rows of A; one that is dead is brought to the length of the others."""
    lengths = np.linalg.norm(a, axis=1)
    typical = float(np.sqrt(np.mean(np.square(lengths)))) or 1.0
    for row in np.flatnonzero(lengths < _DEAD_ROW * typical):
        if lengths[row] == 0:
            a[row, row % a.shape[1]] = typical
        else:
            a[row] *= typical / lengths[row]
    return a


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
