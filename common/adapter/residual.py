"""Residual of an adapter: a low-rank part ``U V`` beside it that the sites do not train.

Some exact aggregation rules (`server.aggregation.flora`, `server.aggregation.fedex`) give an update
of a rank above the adapter's. The residual is the rest: a layer then computes
``W x + U V x + (alpha / r) B A x``. It is an `Adapter` of scaling 1 with U as its B [out, m] and V
as its A [m, in], so that it is sent and stored as one. In messages and checkpoints its key is
``carried``. `common.backbones.residual_hook` adds it to a model.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from common.adapter.adapter import Adapter, Matrix, shown, tensor_name
from common.adapter.low_rank import LowRankSum, Singular
from common.errors import AdapterError


def residual_from_sums(
    sums: Iterable[tuple[str, LowRankSum]], like: Adapter, max_rank: int
) -> tuple[Adapter, float]:
    """Truncate one sum a layer to a residual, the best approximation of at most a rank.

    Args:
        sums: the layers' names with their sums; consumed one by one.
        like: an adapter with the backbone, the target modules and the dropout.
        max_rank: the largest rank of the result.

    Returns:
        The residual, of the smallest rank that holds every layer's directions, at least 1; and the
        share of the squared norm, over all layers, that was cut.
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
    residual = replace(like, tensors=tensors, rank=rank, alpha=float(rank))
    return residual, max(0.0, 1.0 - kept / total) if total > 0 else 0.0


def _balanced(found: Singular, max_rank: int) -> tuple[Matrix, Matrix]:
    """U [out, m] and V [m, in], each with the root of the singular values."""
    root = np.sqrt(found.s[:max_rank])
    u, v = found.u[:, :max_rank] * root, root[:, None] * found.v[:max_rank]
    return u.astype(np.float32), v.astype(np.float32)


def fold_residual(adapter: Adapter, residual: Adapter | None) -> Adapter:
    """Return one adapter with the sum of both products, of rank r + m and scaling 1.

    Args:
        adapter: the trained part.
        residual: its residual; without one, `adapter` is returned unchanged.

    Raises:
        AdapterError: where the two are not of the same backbone and layers.
    """
    if residual is None:
        return adapter
    _check_residual(adapter, residual)
    tensors: dict[str, Matrix] = {}
    for module in adapter.modules:
        (a, b), (v, u) = adapter.pair(module), residual.pair(module)
        scaled = (adapter.scaling * b.astype(np.float64)).astype(np.float32)
        tensors[tensor_name(module, "A")] = np.concatenate([a, v])
        tensors[tensor_name(module, "B")] = np.concatenate([scaled, u], axis=1)
    rank = adapter.rank + residual.rank
    return replace(adapter, tensors=tensors, rank=rank, alpha=float(rank))


def _check_residual(adapter: Adapter, residual: Adapter) -> None:
    """Check scaling 1, and the backbone, layers and sizes of the adapter."""
    if residual.scaling != 1.0:
        raise AdapterError(
            f"the residual has alpha / rank = {residual.scaling:g}, expected 1; it is an adapter "
            "and no residual"
        )
    if residual.backbone_digest != adapter.backbone_digest or residual.modules != adapter.modules:
        raise AdapterError(
            "the residual is of another backbone or other layers than the adapter; take both from "
            "the same round"
        )
    for module in adapter.modules:
        (a, b), (v, u) = adapter.pair(module), residual.pair(module)
        if (a.shape[1], b.shape[0]) != (v.shape[1], u.shape[0]):
            raise AdapterError(
                f"the residual has {v.shape[1]} to {u.shape[0]} for {shown(module)}, the adapter "
                f"{a.shape[1]} to {b.shape[0]}; take both from the same round"
            )
