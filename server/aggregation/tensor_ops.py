"""Sums and orderings over the sites' matrices that the aggregation rules are built from.

Adapters may be read from disk at every access (see `server.rounds.reply_store`). `weighted_mean`
reads one site after another. The functions that need all sites of a layer at once work in blocks
of layers: `coordinate_wise` on the sorted values of each coordinate, `product_sums` on the products
``(alpha / r) B A``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from common.adapter.adapter import Adapter, Matrix, tensor_name
from common.adapter.low_rank import DENSE_FROM, LowRankSum

_BLOCK_BYTES = 96 * 2**20
"""Memory for one block of layers: the matrices of all sites, or the sums over them."""

_FLOAT64 = 8


def shares(weights: Mapping[str, float]) -> dict[str, float]:
    """Return the weights divided by their sum, in the order of the sites' names."""
    sites = sorted(weights)
    total = sum(weights[site] for site in sites)
    return {site: weights[site] / total for site in sites}


def weighted_mean(
    sites: Iterable[tuple[float, Mapping[str, Matrix]]],
) -> dict[str, Matrix]:
    """Average matrices by name.

    Sums run in float64, in the order given. Each addition rounds by 1e-16 relative, far below half
    a step of float32: the mean of equal matrices is that matrix, bit for bit.

    Args:
        sites: share and matrices of each site, at least one; the names and shapes are the same at
            every site, the shares sum to one.

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


def coordinate_wise(
    adapters: Mapping[str, Adapter],
    previous: Adapter,
    rule: Callable[[Matrix], npt.NDArray[np.floating]],
) -> dict[str, Matrix]:
    """Apply a rule to each coordinate of A and of B, over the sites.

    Args:
        adapters: the sites' adapters, of one layout; each is read once per block of layers.
        previous: an adapter of the same layout.
        rule: maps the sites' matrices ``[sites, …]``, sorted over the sites coordinate by
            coordinate, to one matrix.

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


def product_sums(
    adapters: Mapping[str, Adapter],
    shares: Mapping[str, float],
    previous: Adapter,
    others: Sequence[tuple[float, Adapter]] = (),
) -> Iterator[tuple[str, LowRankSum]]:
    """Yield each layer's name and ``sum_k w_k (alpha_k / r_k) B_k A_k``, in order of the names.

    Args:
        adapters: the sites' adapters, of any ranks; each is read once per block of layers.
        shares: each site's w_k, in the order of summation.
        previous: an adapter with the same layers.
        others: further terms with their factors, added last.
    """

    def cost(module: str) -> int:
        rows, columns = _sizes(previous, module)
        width = len(shares) * previous.rank + sum(adapter.rank for _, adapter in others)
        # `LowRankSum` stacks factors up to this width and holds the dense matrix from then on.
        width = min(width, int(DENSE_FROM * min(rows, columns)) + 1)
        return _FLOAT64 * max(width, 1) * (rows + columns)

    for block in blocks(previous.modules, cost):
        sums = {module: LowRankSum(*_sizes(previous, module)) for module in block}
        for site, share in shares.items():
            _add(sums, share, adapters[site])
        for factor, adapter in others:
            _add(sums, factor, adapter)
        for module in block:
            # Popped, so that a layer's memory is free before the next layer's decomposition.
            yield module, sums.pop(module)


def _sizes(adapter: Adapter, module: str) -> tuple[int, int]:
    """The out and in dimensions of a layer."""
    a, b = adapter.pair(module)
    return len(b), len(a[0])


def _add(sums: Mapping[str, LowRankSum], factor: float, adapter: Adapter) -> None:
    for module, total in sums.items():
        a, b = adapter.pair(module)
        total.add(factor * adapter.scaling, b, a)


def blocks(
    modules: Sequence[str], cost: Callable[[str], int], budget: int = _BLOCK_BYTES
) -> Iterator[list[str]]:
    """Split layers into consecutive blocks, each within the budget or of a single layer.

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
