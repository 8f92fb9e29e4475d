"""Every site's value of every coordinate: what the coordinate-wise rules work on."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt

from common.adapter.adapter import Adapter, Matrix, tensor_name
from server.aggregation.blocks import blocks


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
