"""Weighted sums of the sites' products ``(alpha / r) B A``, layer by layer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from common.adapter.adapter import Adapter
from common.adapter.low_rank import DENSE_FROM, LowRankSum
from server.aggregation.blocks import blocks

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
