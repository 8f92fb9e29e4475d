"""What is carried beside the adapter: a low-rank part ``U V`` that the sites do not train.

Some exact rules (`server.aggregation.flora`, `server.aggregation.fedex`) end in an update of more
than the adapter's rank. What exceeds it is carried: a layer then computes ``W x + U V x + (alpha /
r) B A x``. It is held as an `Adapter` of scaling 1 with U as its B [out, m] and V as its A [m, in],
so that it travels and is stored as one; `common.backbones.residual_hook` lets a model compute it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from common.adapter.adapter import Adapter, Matrix, shown, tensor_name
from common.adapter.low_rank import LowRankSum, Singular
from common.errors import AdapterError


def folded(adapter: Adapter, carried: Adapter | None) -> Adapter:
    """Return one adapter with the product of both, of rank r + m and scaling 1.

    Args:
        adapter: the trained part.
        carried: what stands beside it; without it, `adapter` comes back as it is.

    Raises:
        AdapterError: where the two are not of the same backbone and layers.
    """
    if carried is None:
        return adapter
    check_beside(adapter, carried)
    tensors: dict[str, Matrix] = {}
    for module in adapter.modules:
        (a, b), (v, u) = adapter.pair(module), carried.pair(module)
        scaled = (adapter.scaling * b.astype(np.float64)).astype(np.float32)
        tensors[tensor_name(module, "A")] = np.concatenate([a, v])
        tensors[tensor_name(module, "B")] = np.concatenate([scaled, u], axis=1)
    rank = adapter.rank + carried.rank
    return replace(adapter, tensors=tensors, rank=rank, alpha=float(rank))


def compressed(carried: Adapter, max_rank: int) -> tuple[Adapter, float]:
    """Return the best approximation of a rank, and the share of the squared norm that it cuts.

    Args:
        carried: what to compress.
        max_rank: the largest rank of the result; directions of no value are left out beside.
    """
    return from_sums(
        ((module, _as_sum(carried, module)) for module in carried.modules), carried, max_rank
    )


def from_sums(
    sums: Iterable[tuple[str, LowRankSum]], like: Adapter, max_rank: int
) -> tuple[Adapter, float]:
    """Make a carried part of one sum a layer.

    Args:
        sums: the layers' names with their sums; looked at one by one.
        like: names the backbone, the target modules and the dropout.
        max_rank: the largest rank of the result.

    Returns:
        The part, of the smallest rank that holds every layer's directions, at least 1; and the
        share of the squared norm, over all layers, that did not fit.
    """
    factors: dict[str, tuple[Matrix, Matrix]] = {}
    kept = total = 0.0
    for module, summed in sums:
        found = summed.svd()
        squares = np.square(found.s)
        total += float(squares.sum())
        kept += float(squares[:max_rank].sum())
        factors[module] = _balanced(found, max_rank)
    rank = max(1, *(len(v) for _, v in factors.values()))
    tensors: dict[str, Matrix] = {}
    for module, (u, v) in factors.items():
        missing = rank - len(v)
        tensors[tensor_name(module, "A")] = np.pad(v, ((0, missing), (0, 0)))
        tensors[tensor_name(module, "B")] = np.pad(u, ((0, 0), (0, missing)))
    part = replace(like, tensors=tensors, rank=rank, alpha=float(rank))
    return part, max(0.0, 1.0 - kept / total) if total > 0 else 0.0


def check_beside(adapter: Adapter, carried: Adapter) -> None:
    """Check that a carried part goes with an adapter.

    Raises:
        AdapterError: where its scaling is not 1, or backbone, layers or their sizes differ.
    """
    if carried.scaling != 1.0:
        raise AdapterError(
            f"the carried part has alpha / rank = {carried.scaling:g}, expected 1; "
            "it is no carried part"
        )
    if carried.backbone_digest != adapter.backbone_digest or carried.modules != adapter.modules:
        raise AdapterError(
            "the carried part is of another backbone or other layers than the adapter; take both "
            "from the same round"
        )
    for module in adapter.modules:
        (a, b), (v, u) = adapter.pair(module), carried.pair(module)
        if (a.shape[1], b.shape[0]) != (v.shape[1], u.shape[0]):
            raise AdapterError(
                f"the carried part has {v.shape[1]} to {u.shape[0]} for {shown(module)}, the "
                f"adapter {a.shape[1]} to {b.shape[0]}; take both from the same round"
            )


def _as_sum(adapter: Adapter, module: str) -> LowRankSum:
    a, b = adapter.pair(module)
    summed = LowRankSum(b.shape[0], a.shape[1])
    summed.add(adapter.scaling, b, a)
    return summed


def _balanced(found: Singular, max_rank: int) -> tuple[Matrix, Matrix]:
    """U [out, m] and V [m, in], each with the root of the singular values."""
    root = np.sqrt(found.s[:max_rank])
    u, v = found.u[:, :max_rank] * root, root[:, None] * found.v[:max_rank]
    return u.astype(np.float32), v.astype(np.float32)
