"""Bounds against all ways to fill the suppressed bins, and against simulated noise."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.statistics.binned_counts import CountRange, binned_counts, quantile_for

BINS = 3


def fillings(counts: list[int | None], total: int | None, most: int) -> list[list[int]]:
    """Return all ways to fill the suppressed bins."""
    hidden = counts.count(None)
    shown = sum(count for count in counts if count is not None)
    found = []
    for values in product(range(most + 1), repeat=hidden):
        if total is not None and hidden and shown + sum(values) != total:
            continue
        if shown + sum(values) > most:
            continue
        rest = iter(values)
        found.append([next(rest) if count is None else count for count in counts])
    return found


@given(st.lists(st.none() | st.integers(0, 4), min_size=BINS, max_size=BINS), st.booleans())
def test_the_bounds_hold_every_filling_and_no_more(counts: list[int | None], told: bool) -> None:
    shown = sum(count for count in counts if count is not None)
    total = shown + (3 if None in counts else 0)
    one = binned_counts([counts], [total if told else None], [CountRange(0, total)], [0.0], 3.0)
    every = fillings(counts, total if told else None, total)
    filled = [filling for filling in every if sum(filling)]
    low, high = one.cumulative()
    if len(filled) < len(every):
        return  # of nobody, the shares are not defined
    shares = np.array([np.cumsum(f)[:-1] / sum(f) for f in filled])
    assert low[0] == pytest.approx(shares.min(axis=0))
    assert high[0] == pytest.approx(shares.max(axis=0))
    medians = [int(np.argmax(np.append(row, 1.0) >= 0.5)) for row in shares]
    assert one.median_bins()[0].tolist() == [min(medians), max(medians)]
    for chosen in product([False, True], repeat=BINS):
        sums = [sum(n for n, inside in zip(f, chosen, strict=True) if inside) for f in filled]
        bins = np.array([chosen])
        assert one.least_in(bins)[0] <= min(sums)
        assert one.most_in(bins)[0] >= max(sums)


def test_without_any_total_a_suppressed_bin_may_hold_everybody() -> None:
    one = binned_counts([[5, None, 5]], [None], [CountRange(10, math.inf)], [0.0], 3.0)
    low, high = one.cumulative()
    assert low[0].tolist() == [0.0, 0.5]
    assert high[0].tolist() == [0.5, 1.0]
    assert one.median_bins()[0].tolist() == [0, 1]


def test_a_site_that_shows_nothing_has_no_bounds() -> None:
    one = binned_counts([[None, None]], [None], [CountRange(0, math.inf)], [0.0], 3.0)
    assert [bound.tolist() for bound in one.cumulative()] == [[[0.0]], [[1.0]]]
    assert one.fewest.tolist() == [0.0]
    assert one.total.tolist() == [0.0]


def test_noise_leaves_the_bounds_as_rarely_as_its_quantile_says() -> None:
    rng, sites, rate = np.random.default_rng(5), 2000, 0.1
    exact = np.array([30.0, 60.0, 80.0, 50.0, 30.0])
    noisy = exact + rng.normal(0, 6.0, (sites, len(exact)))
    z = quantile_for(1, rate)
    one = binned_counts(
        noisy.tolist(), noisy.sum(axis=1).tolist(), [CountRange(0, 999)] * sites, [6.0] * sites, z
    )
    low, _ = one.cumulative()
    missed = np.abs(low - np.cumsum(exact)[:-1] / exact.sum()) > one.noise_margin()
    # The margin divides by the fewest patients, so it is a little wide.
    assert 0.2 * rate < missed.mean() < rate
    assert (one.fewest <= exact.sum()).mean() > 1 - rate
