from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.adapter.adapter import Adapter
from common.adapter.residual import compressed, folded
from common.adapter.serialization.message import decode, encode
from common.errors import AdapterError
from tests.server.aggregation.samples import SIZES, adapter, dense, same_product


def part(seed: int, rank: int = 3) -> Adapter:
    return adapter(seed, rank=rank, alpha=float(rank))


@given(st.integers(1, 4), st.integers(1, 6), st.sampled_from([1.0, 3.0, 16.0]), st.integers(0, 99))
def test_folding_adds_the_products(rank: int, carried: int, alpha: float, seed: int) -> None:
    trained, beside = adapter(seed, rank=rank, alpha=alpha), part(seed + 1, carried)
    whole = folded(trained, beside)
    assert (whole.rank, whole.scaling) == (rank + carried, 1.0)
    assert whole.target_modules == trained.target_modules
    for module in trained.modules:
        expected = dense(trained, module) + dense(beside, module)
        assert same_product(dense(whole, module), expected)


def test_without_a_part_the_adapter_is_the_whole() -> None:
    trained = adapter(0)
    assert folded(trained, None) is trained


def test_a_part_travels_as_an_adapter_does() -> None:
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
def test_a_part_of_something_else_is_refused(wrong: Adapter) -> None:
    with pytest.raises(AdapterError, match="carried part"):
        folded(adapter(1), wrong)


@given(st.integers(1, 6), st.integers(1, 8), st.integers(0, 99))
def test_compressing_is_optimal_and_says_what_it_cuts(rank: int, cap: int, seed: int) -> None:
    whole = part(seed, rank)
    smaller, cut = compressed(whole, cap)
    assert (smaller.scaling, smaller.rank <= min(cap, rank)) == (1.0, True)
    lost = total = 0.0
    for module in whole.modules:
        s = np.linalg.svd(dense(whole, module), compute_uv=False)
        lost, total = lost + float(np.square(s[cap:]).sum()), total + float(np.square(s).sum())
        error = np.linalg.norm(dense(whole, module) - dense(smaller, module))
        assert error == pytest.approx(np.linalg.norm(s[cap:]), abs=1e-5)
    assert cut == pytest.approx(lost / total, abs=1e-12)


def test_directions_of_no_value_are_left_out() -> None:
    twice = folded(part(0, 2), part(0, 2))
    assert twice.rank == 4
    smaller, cut = compressed(twice, 64)
    assert (smaller.rank, cut) == (2, 0.0)
