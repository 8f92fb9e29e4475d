from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq
from scipy.stats import binom, norm

from simulation.attacks.bounds import (
    binomial_interval,
    bound_epsilon,
    epsilon_interval,
    gaussian_epsilon,
)


@settings(max_examples=60)
@given(trials=st.integers(1, 3000), share=st.floats(0, 1), outside=st.floats(0.001, 0.2))
def test_the_interval_is_clopper_and_pearsons(trials: int, share: float, outside: float) -> None:
    hits = round(share * trials)
    low, high = binomial_interval(hits, trials, outside)
    assert 0.0 <= low <= hits / trials <= high <= 1.0
    if hits > 0:
        assert binom.sf(hits - 1, trials, low) == pytest.approx(outside, rel=1e-6)
    if hits < trials:
        assert binom.cdf(hits, trials, high) == pytest.approx(outside, rel=1e-6)


def test_an_event_never_seen_bounds_by_the_number_of_trials() -> None:
    low, high = epsilon_interval(500, 0, 500, 1e-5)
    assert low == pytest.approx(math.log(500 / 3.7), abs=0.05)
    assert high == math.inf
    assert epsilon_interval(0, 500, 500, 1e-5)[0] == -math.inf


@pytest.mark.parametrize("mu", [0.1, 0.5, 1.0, 2.0, 4.0])
def test_epsilon_of_two_gaussians_is_the_exact_one(mu: float) -> None:
    def excess(epsilon: float) -> float:
        above = norm.cdf(mu / 2 - epsilon / mu)
        return float(above - math.exp(epsilon) * norm.cdf(-mu / 2 - epsilon / mu) - 1e-5)

    assert gaussian_epsilon(mu, 1e-5) == pytest.approx(brentq(excess, 0.0, 60.0), rel=1e-6)
    assert gaussian_epsilon(0.0, 1e-5) == gaussian_epsilon(-1.0, 1e-5) == 0.0


def test_a_true_gaussian_is_bounded_from_below_in_nineteen_cases_of_twenty() -> None:
    true = gaussian_epsilon(1.5, 1e-5)
    random = np.random.default_rng(0)
    found = [
        bound_epsilon(random.normal(1.5, 1, 1000), random.normal(0, 1, 1000), 1e-5)
        for _ in range(200)
    ]
    for bounds in ([one.low for one in found], [one.gaussian for one in found]):
        assert np.mean([bound > true for bound in bounds]) <= 0.05
    assert np.median([one.gaussian for one in found]) > 0.75 * true
    assert np.median([one.low for one in found]) > 0.25 * true


def test_the_side_and_the_direction_are_found() -> None:
    random = np.random.default_rng(0)
    near, far = random.normal(0, 1, 400), random.normal(9, 1, 400)
    for pair in ((near, far), (far, near)):
        found = bound_epsilon(*pair, 1e-5)
        assert found.low > 3.5
        assert found.gaussian > 10.0


def test_nothing_is_found_where_nothing_is() -> None:
    random = np.random.default_rng(0)
    found = [
        bound_epsilon(random.normal(size=200), random.normal(size=200), 1e-5) for _ in range(50)
    ]
    assert np.mean([one.low == 0.0 and one.gaussian == 0.0 for one in found]) >= 0.9
