"""Adapters of any layout, and the slow obvious references that rules are proved against."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from hypothesis import strategies as st

from common.adapter.adapter import Adapter, tensor_name
from common.config.run_config import AggregationConfig
from server.aggregation.rules import Aggregate, aggregate

Array = npt.NDArray[np.float64]
Sizes = Mapping[str, tuple[int, int]]
"""Layers by name: in and out."""

SIZES: Sizes = {"block.0.q": (5, 7), "block.0.v": (6, 6), "block.1.q": (4, 9)}
SITES = ("ccu", "csru", "micu", "sicu", "tsicu", "nicu", "picu")
SETTINGS = AggregationConfig()


def adapter(
    seed: int, *, rank: int = 2, alpha: float = 4.0, sizes: Sizes = SIZES, b: float = 1.0
) -> Adapter:
    """A random adapter; `b` scales its B, 0 makes it fresh."""
    random = np.random.default_rng(seed)
    tensors = {}
    for module, (columns, rows) in sizes.items():
        drawn_a = random.normal(size=(rank, columns)) / np.sqrt(columns)
        drawn_b = b * random.normal(size=(rows, rank))
        tensors[tensor_name(module, "A")] = drawn_a.astype(np.float32)
        tensors[tensor_name(module, "B")] = drawn_b.astype(np.float32)
    return Adapter(tensors, rank, alpha, "q|v", "b", "0" * 64)


def with_tensors(like: Adapter, change: Any) -> Adapter:
    """An adapter whose matrices are ``change(name, matrix)``."""
    from dataclasses import replace

    tensors = {
        name: np.asarray(change(name, matrix), np.float32) for name, matrix in like.tensors.items()
    }
    return replace(like, tensors=tensors)


def run(
    rule: str,
    adapters: Mapping[str, Adapter],
    weights: Mapping[str, float] | None = None,
    previous: Adapter | None = None,
    residual: Adapter | None = None,
    settings: AggregationConfig = SETTINGS,
) -> Aggregate:
    """Aggregate, with equal weights and a fresh adapter before the round where none is given."""
    chosen = dict.fromkeys(adapters, 1.0) if weights is None else weights
    before = adapter(99, b=0.0) if previous is None else previous
    return aggregate(rule, adapters, chosen, before, residual, settings)


def dense(given: Adapter, module: str) -> Array:
    """``(alpha / r) B A`` of a layer, [out, in]."""
    a, b = given.pair(module)
    return given.alpha / given.rank * (b.astype(np.float64) @ a.astype(np.float64))


def dense_mean(adapters: Mapping[str, Adapter], weights: Mapping[str, float], module: str) -> Array:
    """``sum_k w_k (alpha_k / r_k) B_k A_k`` with the weights normalised, [out, in]."""
    total = sum(weights.values())
    terms = [weights[site] / total * dense(adapters[site], module) for site in adapters]
    mean: Array = np.sum(terms, axis=0)
    return mean


def best(matrix: Array, rank: int) -> Array:
    """The nearest matrix of a rank, by numpy's SVD of the whole."""
    u, s, v = np.linalg.svd(matrix, full_matrices=False)
    nearest: Array = (u[:, :rank] * s[:rank]) @ v[:rank]
    return nearest


def same_product(left: Array, right: Array, tolerance: float = 1e-6) -> bool:
    """Equal up to a share of the largest entry."""
    scale = max(float(np.abs(right).max()), float(np.abs(left).max()), 1e-12)
    return bool(np.abs(left - right).max() <= tolerance * scale)


@st.composite
def rounds(
    draw: st.DrawFn, *, mixed: bool = False, least: int = 1
) -> tuple[dict[str, Adapter], dict[str, float], Adapter]:
    """Adapters, weights and the adapter before: any sizes, in != out, in = out, r = dim, any alpha.

    Args:
        draw: hypothesis's.
        mixed: whether ranks and alphas differ by site.
        least: sites at least.
    """
    rank = draw(st.integers(1, 4))
    side = st.integers(rank, 9)
    sizes = {f"block.{index}.q": draw(st.tuples(side, side)) for index in range(2)}
    # r = dim, and a square layer, in every round.
    sizes |= {"block.2.q": (rank, rank + 2), "block.3.q": (6, 6)}
    alphas = st.sampled_from([1.0, 2.0, 3.0, 8.0, 16.0])
    alpha = draw(alphas)
    sites = draw(st.lists(st.sampled_from(SITES), min_size=least, max_size=5, unique=True))
    seed = draw(st.integers(0, 2**32 - 10))
    adapters = {}
    for index, site in enumerate(sites):
        own_rank, own_alpha = (draw(st.integers(1, rank)), draw(alphas)) if mixed else (rank, alpha)
        adapters[site] = adapter(seed + index, rank=own_rank, alpha=own_alpha, sizes=sizes)
    weights = {site: draw(st.floats(0.01, 1e5)) for site in sites}
    return adapters, weights, adapter(seed + 9, rank=rank, alpha=alpha, sizes=sizes, b=0.5)


def shuffled(items: Mapping[str, Any], order: Sequence[str]) -> dict[str, Any]:
    """The same mapping in another order."""
    return {name: items[name] for name in order}
