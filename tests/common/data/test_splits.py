from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from common.data.splits import SPLIT_SHARES, SPLITS, assign_splits, split_of


def test_shares_are_those_promised() -> None:
    splits = assign_splits(str(patient) for patient in range(20_000))
    shares = [np.mean(splits == split) for split in SPLITS]
    np.testing.assert_allclose(shares, SPLIT_SHARES, atol=0.01)


def test_the_split_never_moves() -> None:
    # A changed hash would put yesterday's test patients into today's training data.
    drawn = "".join(split_of(str(patient))[:2] for patient in range(12))
    assert drawn == "trtetrtetrtrtetetrtrtrtr"


def test_another_key_draws_another_split() -> None:
    ids = [str(patient) for patient in range(1000)]
    assert (assign_splits(ids, "a") != assign_splits(ids, "b")).any()


@given(st.lists(st.text(max_size=12), max_size=40))
def test_rows_agree_with_one_at_a_time(ids: list[str]) -> None:
    assert assign_splits(ids).tolist() == [split_of(patient) for patient in ids]
