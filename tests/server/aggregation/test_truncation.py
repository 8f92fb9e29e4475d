from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import AdapterError
from server.aggregation.truncation import truncate
from tests.server.aggregation.samples import adapter, best, dense, same_product


@given(st.integers(1, 4), st.integers(0, 100))
def test_truncating_is_optimal_and_keeps_the_scaling(rank: int, seed: int) -> None:
    whole = adapter(seed, rank=4, alpha=6.0)
    lower = truncate(whole, rank)
    assert (lower.rank, lower.scaling) == (rank, whole.scaling)
    for module in whole.modules:
        assert same_product(dense(lower, module), best(dense(whole, module), rank))


def test_truncating_a_fresh_adapter_takes_its_first_rows() -> None:
    fresh = adapter(0, rank=4, b=0.0)
    lower = truncate(fresh, 2)
    for module in fresh.modules:
        assert np.array_equal(lower.pair(module)[0], fresh.pair(module)[0][:2])
        assert not lower.pair(module)[1].any()


def test_truncating_to_its_own_rank_changes_nothing() -> None:
    whole = adapter(0, rank=4)
    assert truncate(whole, 4) is whole


@pytest.mark.parametrize("rank", [0, 5])
def test_a_rank_that_the_run_has_not_is_refused(rank: int) -> None:
    with pytest.raises(AdapterError, match=f"asks for rank {rank}, the run has 4"):
        truncate(adapter(0, rank=4), rank)
