from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.adapter.adapter import Adapter
from tests.server.aggregation.samples import (
    SITES,
    adapter,
    best,
    dense,
    dense_mean,
    rounds,
    run,
    same_product,
)


@given(rounds(mixed=True))
def test_no_adapter_of_the_rank_is_nearer(
    given_: tuple[dict[str, Adapter], dict[str, float], Adapter],
) -> None:
    adapters, weights, previous = given_
    result = run("svd", adapters, weights, previous)
    cut = total = 0.0
    for module in previous.modules:
        mean = dense_mean(adapters, weights, module)
        nearest = best(mean, previous.rank)
        error = float(np.linalg.norm(dense(result.adapter, module) - mean))
        least = float(np.linalg.norm(nearest - mean))
        assert error <= least + 1e-6 * float(np.linalg.norm(mean))
        cut, total = cut + least**2, total + float(np.square(mean).sum())
    assert result.notes["cut"] == pytest.approx(cut / total, abs=1e-12)


@pytest.mark.parametrize("count", [1, 2, 5, 7])
def test_factored_and_dense_agree(count: int) -> None:
    # 40 wide: 7 sites of rank 6 are stacked to 42 > 0.75 * 40, two to 12.
    sizes = {"block.0.q": (40, 44)}
    adapters = {site: adapter(i, rank=6, sizes=sizes) for i, site in enumerate(SITES[:count])}
    result = run("svd", adapters, previous=adapter(99, rank=6, sizes=sizes))
    mean = dense_mean(adapters, dict.fromkeys(adapters, 1.0), "block.0.q")
    assert same_product(dense(result.adapter, "block.0.q"), best(mean, 6))


def test_one_site_keeps_its_product() -> None:
    alone = adapter(0)
    result = run("svd", {"micu": alone})
    for module in alone.modules:
        assert same_product(dense(result.adapter, module), dense(alone, module))


def test_both_matrices_share_the_singular_values() -> None:
    result = run("svd", {site: adapter(i) for i, site in enumerate(SITES)})
    for module in result.adapter.modules:
        a, b = result.adapter.pair(module)
        np.testing.assert_allclose(a @ a.T, np.diag(np.diag(a @ a.T)), atol=1e-5)
        np.testing.assert_allclose(a @ a.T, b.T @ b, atol=1e-5)
        assert (b[np.abs(b).argmax(axis=0), [0, 1]] > 0).all()


@given(st.integers(1, 3), st.integers(0, 100))
def test_directions_without_a_value_can_still_be_trained(rank: int, seed: int) -> None:
    """A mean of rank 1 to 3 in an adapter of rank 4: the rest starts as a fresh adapter does."""
    previous = adapter(seed + 1, rank=4, b=0.0)
    result = run("svd", {"micu": adapter(seed, rank=rank)}, previous=previous)
    for module in previous.modules:
        a, b = result.adapter.pair(module)
        assert (np.linalg.norm(b, axis=0) > 0).tolist() == [i < rank for i in range(4)]
        assert np.array_equal(a[rank:], previous.pair(module)[0][rank:])
        # The gradient of B is G (A x)^T: with no row of A at zero, none of its columns is dead.
        assert (np.linalg.norm(a, axis=1) > 1e-3).all()


def test_a_dead_row_of_the_previous_a_is_brought_back_to_life() -> None:
    previous = adapter(0, rank=4, b=0.0)
    tensors = {name: np.array(matrix) for name, matrix in previous.tensors.items()}
    for name, matrix in tensors.items():
        if "lora_A" in name:
            matrix[2], matrix[3] = 0.0, 1e-9 * matrix[3]
    dead = replace(previous, tensors=tensors)
    result = run("svd", {"micu": dead}, previous=dead)
    for module in dead.modules:
        a, b = result.adapter.pair(module)
        lengths = np.linalg.norm(a, axis=1)
        assert lengths.min() > 0.3 * lengths.max()
        assert not b.any()
