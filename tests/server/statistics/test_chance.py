"""Bounds on chance against simulated samples."""

from __future__ import annotations

import numpy as np

from server.statistics.chance import cumulative_margin, low_share_probability


def test_the_margin_of_a_cumulative_distribution_is_exceeded_as_rarely_as_given() -> None:
    rng, patients, chance = np.random.default_rng(1), 80, 0.2
    samples = np.sort(rng.random((4000, patients)), axis=1)
    steps = np.arange(1, patients + 1) / patients
    farthest = np.maximum(np.abs(steps - samples), np.abs(steps - 1 / patients - samples)).max(
        axis=1
    )
    exceeded = (farthest > cumulative_margin(np.array(patients), chance)).mean()
    assert 0.6 * chance < exceeded < chance


def test_the_probability_of_a_low_count_is_a_bound() -> None:
    rng, patients, share = np.random.default_rng(2), 60, 0.4
    counts = rng.binomial(patients, share, 100_000)
    for count in (5, 10, 15, 20):
        bound = float(low_share_probability(count, patients, share))
        assert (counts <= count).mean() <= bound


def test_a_count_that_is_not_low_is_no_surprise() -> None:
    assert low_share_probability([30, 0], [60, 0], [0.4, 0.4]).tolist() == [1.0, 1.0]
    assert float(low_share_probability(0, 10, 1.0)) == 0.0
