"""Blocks of layers, for rules that need every site's matrices of a layer at once.

Adapters may lie on disk and be read anew at every look. A rule that goes through all sites once a
block holds one block of each, not all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

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
