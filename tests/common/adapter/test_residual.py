from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.adapter.adapter import Adapter
from common.adapter.low_rank import LowRankSum
from common.adapter.residual import fold_residual, residual_from_sums
from common.adapter.serialization.message import decode, encode
from common.errors import AdapterError
from tests.server.aggregation.samples import SIZES, adapter, dense, same_product


def part(seed: int, rank: int = 3) -> Adapter:
    return adapter(seed, rank=rank, alpha=float(rank))


@given(st.integers(1, 4), st.integers(1, 6), st.sampled_from([1.0, 3.0, 16.0]), st.integers(0, 99))
def test_folding_adds_the_products(rank: int, extra: int, alpha: float, seed: int) -> None:
    trained, residual = adapter(seed, rank=rank, alpha=alpha), part(seed + 1, extra)
    whole = fold_residual(trained, residual)
    assert (whole.rank, whole.scaling) == (rank + extra, 1.0)
    assert whole.target_modules == trained.target_modules
    for module in trained.modules:
        expected = dense(trained, module) + dense(residual, module)
        assert same_product(dense(whole, module), expected)


def test_without_a_residual_the_adapter_is_the_whole() -> None:
    trained = adapter(0)
    assert fold_residual(trained, None) is trained


def test_a_residual_is_sent_as_an_adapter() -> None:
    assert decode(encode(part(0))) == part(0)


@pytest.mark.parametrize(
    "wrong",
    [
        adapter(0, alpha=4.0),
        replace(part(0), backbone_digest="1" * 64),
        adapter(0, alpha=2.0, sizes={"block.0.q": (5, 7)}),
        adapter(0, alpha=2.0, sizes={**SIZES, "block.0.q": (5, 8)}),
    ],
)
def test_a_residual_of_something_else_is_refused(wrong: Adapter) -> None:
    with pytest.raises(AdapterError, match="the residual"):
        fold_residual(adapter(1), wrong)


def sums(whole: Adapter) -> Iterator[tuple[str, LowRankSum]]:
    for module in whole.modules:
        a, b = whole.pair(module)
        summed = LowRankSum(b.shape[0], a.shape[1])
        summed.add(whole.scaling, b, a)
        yield module, summed


@given(st.integers(1, 6), st.integers(1, 8), st.integers(0, 99))
def test_truncation_is_optimal_and_reports_its_loss(rank: int, cap: int, seed: int) -> None:
    whole = part(seed, rank)
    smaller, cut = residual_from_sums(sums(whole), whole, cap)
    assert (smaller.scaling, smaller.rank <= min(cap, rank)) == (1.0, True)
    lost = total = 0.0
    for module in whole.modules:
        s = np.linalg.svd(dense(whole, module), compute_uv=False)
        lost, total = lost + float(np.square(s[cap:]).sum()), total + float(np.square(s).sum())
        error = np.linalg.norm(dense(whole, module) - dense(smaller, module))
        assert error == pytest.approx(np.linalg.norm(s[cap:]), abs=1e-5)
    assert cut == pytest.approx(lost / total, abs=1e-12)


def test_directions_without_weight_are_dropped() -> None:
    twice = fold_residual(part(0, 2), part(0, 2))
    assert twice.rank == 4
    smaller, cut = residual_from_sums(sums(twice), twice, 64)
    assert (smaller.rank, cut) == (2, 0.0)
