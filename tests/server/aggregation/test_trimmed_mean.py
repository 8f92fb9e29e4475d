from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.config.run_config import AggregationConfig
from server.aggregation.trimmed_mean import trimmed_sites
from tests.server.aggregation.samples import SITES, adapter, run


@given(st.integers(1, 7), st.floats(0.0, 0.49))
def test_trimmed_mean_is_the_mean_of_what_is_left(count: int, share: float) -> None:
    sites = {site: adapter(i) for i, site in enumerate(SITES[:count])}
    trimmed = trimmed_sites(count, share)
    result = run("trimmed-mean", sites, settings=AggregationConfig(trim=share))
    assert result.notes["withstands"] == trimmed
    for name, matrix in result.adapter.tensors.items():
        for place in np.ndindex(matrix.shape):
            ordered = sorted(float(own.tensors[name][place]) for own in sites.values())
            kept = ordered[trimmed : count - trimmed]
            assert matrix[place] == pytest.approx(sum(kept) / len(kept), rel=1e-6, abs=1e-7)


@pytest.mark.parametrize(
    ("share", "expected"),
    [
        (0.0, {5: 0}),
        (0.1, {30: 3}),
        (0.2, {4: 1, 5: 1, 10: 2}),
        (0.29, {100: 29}),
        (0.4, {1: 0, 2: 0}),
        (0.49, {3: 1, 5: 2}),
    ],
)
def test_the_share_is_rounded_up_and_leaves_at_least_one_site(
    share: float, expected: dict[int, int]
) -> None:
    assert {sites: trimmed_sites(sites, share) for sites in expected} == expected
