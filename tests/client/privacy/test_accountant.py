from __future__ import annotations

import logging
import math

import dp_accounting as dp_event
import numpy as np
import pytest
from dp_accounting import pld
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq
from scipy.stats import norm

from client.privacy import accountant
from client.privacy.accountant import (
    LEAST_SIGMA,
    SIGMA_TOLERANCE,
    Steps,
    replace_one,
    solve_noise_multiplier,
    spent,
)
from common.errors import PrivacyError

GRID = [
    (0.05, 1.0, 1000, 1e-5),
    (0.1, 1.0, 100, 1e-5),
    (0.1, 2.0, 300, 1e-6),
    (0.02, 0.7, 500, 1e-5),
    (0.5, 3.0, 50, 1e-4),
    (0.2, 1.5, 20, 1e-3),
]


def gaussian_epsilon(sigma: float, delta: float) -> float:
    """The exact epsilon of one Gaussian mechanism (Balle and Wang, arXiv 1805.06530, theorem 8)."""

    def excess(epsilon: float) -> float:
        shift = 1 / (2 * sigma)
        above = norm.cdf(shift - epsilon * sigma) - delta
        return float(above - math.exp(epsilon) * norm.cdf(-shift - epsilon * sigma))

    return float(brentq(excess, 0.0, 200.0))


def opacus_prv(q: float, sigma: float, steps: int, delta: float) -> float:
    from opacus.accountants import PRVAccountant

    prv = PRVAccountant()
    for _ in range(steps):
        prv.step(noise_multiplier=sigma, sample_rate=q)
    return float(prv.get_epsilon(delta))


@pytest.mark.parametrize(("q", "sigma", "steps", "delta"), GRID)
def test_epsilon_is_opacus_own(q: float, sigma: float, steps: int, delta: float) -> None:
    epsilon = spent([Steps(q, sigma, steps)], delta)
    assert epsilon.prv == opacus_prv(q, sigma, steps, delta)
    assert epsilon.accountant == "PRV"
    assert epsilon.prv < epsilon.rdp < 1.25 * epsilon.prv


@pytest.mark.slow
@pytest.mark.parametrize(("q", "sigma", "steps", "delta"), [*GRID, (0.1, 5.0, 50, 1e-5)])
def test_epsilon_is_that_of_dp_accounting(q: float, sigma: float, steps: int, delta: float) -> None:
    other = pld.PLDAccountant(
        neighboring_relation=dp_event.NeighboringRelation.ADD_OR_REMOVE_ONE,
        value_discretization_interval=1e-3,
    )
    step = dp_event.PoissonSampledDpEvent(q, dp_event.GaussianDpEvent(sigma))
    other.compose(step, steps)
    assert spent([Steps(q, sigma, steps)], delta).prv == pytest.approx(
        other.get_epsilon(delta), rel=0.02
    )


@pytest.mark.slow
def test_runs_of_different_noise_compose_as_in_dp_accounting() -> None:
    history = [Steps(0.1, 1.0, 100), Steps(0.05, 2.0, 300), Steps(0.2, 1.5, 20)]
    other = pld.PLDAccountant(value_discretization_interval=1e-3)
    for part in history:
        gaussian = dp_event.GaussianDpEvent(part.noise_multiplier)
        other.compose(dp_event.PoissonSampledDpEvent(part.sample_rate, gaussian), part.steps)
    assert spent(history, 1e-5).prv == pytest.approx(other.get_epsilon(1e-5), rel=0.02)


@pytest.mark.parametrize(("sigma", "steps"), [(1.0, 10), (5.0, 100), (2.0, 1), (20.0, 30)])
def test_without_sampling_it_is_the_gaussian_mechanism(sigma: float, steps: int) -> None:
    exact = gaussian_epsilon(sigma / math.sqrt(steps), 1e-5)
    reported = spent([Steps(1.0, sigma, steps)], 1e-5).prv
    assert exact <= reported <= exact + 0.03


def pair_epsilon(q: float, sigma: float, steps: int, delta: float) -> float:
    """Replace-one by its worst case, a patient at one end or the other, on a fine grid."""
    from dp_accounting.pld.privacy_loss_distribution import from_two_probability_mass_functions

    edges = np.linspace(-1 - 12 * sigma, 1 + 12 * sigma, 20_001)
    here, there = (
        np.diff((1 - q) * norm.cdf(edges / sigma) + q * norm.cdf((edges - end) / sigma))
        for end in (1.0, -1.0)
    )
    kept = np.flatnonzero((here > 1e-30) & (there > 1e-30))
    logs = [dict(zip(kept.tolist(), np.log(part[kept]), strict=True)) for part in (here, there)]
    single = from_two_probability_mass_functions(
        *logs, pessimistic_estimate=False, value_discretization_interval=1e-3
    )
    return float(single.self_compose(steps).get_epsilon_for_delta(delta))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("q", "sigma", "steps", "delta"),
    [(1.0, 8.0, 10, 1e-5), (0.5, 4.0, 5, 1e-5), (0.1, 1.0, 20, 1e-5), (0.1, 2.0, 1, 1e-6)],
)
def test_a_replaced_patient_costs_at_least_the_worst_pair(
    q: float, sigma: float, steps: int, delta: float
) -> None:
    bound, exact = (
        replace_one([Steps(q, sigma, steps)], delta),
        pair_epsilon(q, sigma, steps, delta),
    )
    assert exact <= bound.prv <= bound.rdp
    assert bound.prv <= exact * (1.02 if q == 1.0 else 2.5)
    assert bound.prv > spent([Steps(q, sigma, steps)], delta).prv


def test_without_sampling_a_replaced_patient_is_the_gaussian_of_half_the_noise() -> None:
    exact = gaussian_epsilon(8.0 / 2 / math.sqrt(10), 1e-5)
    assert exact <= replace_one([Steps(1.0, 8.0, 10)], 1e-5).prv <= exact + 0.03


@pytest.mark.slow
def test_replacing_composes_over_runs_and_knows_the_ends() -> None:
    history = [Steps(1.0, 30.0, 10), Steps(0.1, 4.0, 50)]
    both = replace_one(history, 1e-5)
    assert both.prv > max(replace_one([part], 1e-5).prv for part in history)
    many = [Steps(0.1, 4.0 + number, 9) for number in range(5)]
    assert replace_one(many, 1e-5).accountant == "RDP"
    assert replace_one(many, 1e-5).prv > 2 * spent(many, 1e-5).prv
    assert replace_one([], 1e-5).prv == 0.0
    assert replace_one([Steps(0.1, 0.0, 1)], 1e-5).prv == math.inf
    assert replace_one([Steps(0.1, 0.1, 100)], 1e-5).prv == math.inf  # in the thousands


def test_parts_of_a_kind_add_up_and_their_order_does_not_matter() -> None:
    whole = spent([Steps(0.1, 2.0, 30), Steps(0.05, 1.0, 10)], 1e-5)
    parts = [Steps(0.05, 1.0, 4), Steps(0.1, 2.0, 30), Steps(0.2, 1.0, 0), Steps(0.05, 1.0, 6)]
    assert spent(parts, 1e-5) == whole


def test_no_steps_cost_nothing_and_no_noise_is_infinite() -> None:
    assert spent([], 1e-5).prv == 0.0
    assert spent([Steps(0.1, 0.0, 0), Steps(0.0, 1.0, 9)], 1e-5).rdp == 0.0
    assert spent([Steps(0.1, 0.0, 1)], 1e-5).prv == math.inf


def test_much_noise_costs_little() -> None:
    assert 0.0 <= spent([Steps(0.1, 1000.0, 100)], 1e-5).prv < 0.01


@pytest.mark.parametrize(
    ("history", "delta"),
    [
        ([Steps(0.1, 0.1, 100)], 1e-5),  # epsilon in the thousands
        ([Steps(0.1, 0.001, 100)], 1e-5),
        ([Steps(0.1, 1.0, 100_000)], 1e-5),  # a grid of some ten gigabytes
        ([Steps(0.1, 2.0, 100)], 1e-13),  # beyond the digits of its Fourier transform
    ],
)
def test_where_prv_cannot_be_computed_rdp_is_reported(history: list[Steps], delta: float) -> None:
    epsilon = spent(history, delta)
    assert epsilon.accountant == "RDP"
    assert epsilon.prv == epsilon.rdp > 4.0


def test_a_grid_too_large_is_laid_coarser_first(monkeypatch: pytest.MonkeyPatch) -> None:
    fine = spent([Steps(0.1, 1.0, 100)], 1e-5)
    monkeypatch.setattr(accountant, "MOST_POINTS", 20_000)
    coarse = spent([Steps(0.1, 1.0, 100)], 1e-5)
    assert coarse.accountant == "PRV"
    assert fine.prv < coarse.prv < fine.prv + 0.2


@pytest.mark.slow
def test_a_ledger_of_twenty_runs_is_still_composed_by_prv() -> None:
    epsilon = spent([Steps(0.1, 1 + 0.01 * run, 100) for run in range(20)], 1e-5)
    assert epsilon.accountant == "PRV"
    assert 0.9 * epsilon.rdp < epsilon.prv < epsilon.rdp


def test_accountants_that_disagree_raise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accountant, "_rdp", lambda parts, delta: 1.5)
    with pytest.raises(PrivacyError, match=r"PRV gives epsilon 7\.05\d, RDP's bound is 1\.5"):
        spent([Steps(0.1, 1.0, 100)], 1e-5)


@pytest.mark.parametrize(
    ("part", "delta"),
    [
        (Steps(1.1, 1.0, 1), 1e-5),
        (Steps(-0.1, 1.0, 1), 1e-5),
        (Steps(0.1, -1.0, 1), 1e-5),
        (Steps(0.1, math.nan, 1), 1e-5),
        (Steps(0.1, math.inf, 1), 1e-5),
        (Steps(0.1, 1.0, -1), 1e-5),
        (Steps(0.1, 1.0, 1), 0.0),
        (Steps(0.1, 1.0, 1), 1.0),
    ],
)
def test_numbers_out_of_range_are_refused(part: Steps, delta: float) -> None:
    with pytest.raises(PrivacyError):
        spent([part], delta)


@settings(max_examples=12)
@given(
    q=st.floats(0.001, 0.999),
    sigma=st.floats(0.4, 20.0),
    steps=st.integers(1, 2000),
    more=st.floats(1.01, 3.0),
)
def test_rdp_grows_with_steps_and_sampling_and_falls_with_noise(
    q: float, sigma: float, steps: int, more: float
) -> None:
    def rdp(q: float, sigma: float, steps: int) -> float:
        return accountant._rdp([Steps(q, sigma, steps)], 1e-5)

    slack = 1e-6
    base = rdp(q, sigma, steps)
    assert rdp(q, sigma * more, steps) <= base + slack
    assert rdp(q, sigma, math.ceil(steps * more)) >= base - slack
    assert rdp(min(1.0, q * more), sigma, steps) >= base - slack


def test_rdp_of_a_mixed_history_is_opacus_own() -> None:
    from opacus.accountants import RDPAccountant

    own = RDPAccountant()
    own.history = [(1.1, 0.1, 100), (0.8, 0.02, 40)]
    history = [Steps(0.1, 1.1, 100), Steps(0.02, 0.8, 40)]
    for delta in (1e-5, 1e-7):
        assert spent(history, delta).rdp == pytest.approx(own.get_epsilon(delta), rel=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("epsilon", "delta", "q", "steps"),
    [(8.0, 1e-5, 0.1, 100), (1.0, 1e-5, 0.1, 100), (3.0, 1e-6, 0.05, 400), (0.05, 1e-5, 0.05, 10)],
)
def test_solved_noise_spends_the_target_and_no_less_would_do(
    epsilon: float, delta: float, q: float, steps: int
) -> None:
    sigma = solve_noise_multiplier(epsilon, delta, q, steps)
    assert 0.97 * epsilon < spent([Steps(q, sigma, steps)], delta).prv <= epsilon
    less = sigma / (1 + 2 * SIGMA_TOLERANCE)
    assert spent([Steps(q, less, steps)], delta).prv > epsilon


def test_without_sampling_solved_noise_is_the_exact_one() -> None:
    sigma = solve_noise_multiplier(4.0, 1e-5, 1.0, 25)
    exact = float(brentq(lambda s: gaussian_epsilon(s, 1e-5) - 4.0, 0.5, 5.0))
    assert exact <= sigma / 5 <= exact * 1.01
    assert spent([Steps(1.0, sigma, 25)], 1e-5).prv <= 4.0


def test_a_generous_target_needs_the_least_noise() -> None:
    assert solve_noise_multiplier(1e6, 1e-5, 0.1, 10) == LEAST_SIGMA


def test_an_epsilon_out_of_reach_is_refused_with_what_to_change() -> None:
    with pytest.raises(PrivacyError, match=r"out of reach in 100 steps.*raise privacy\.epsilon"):
        solve_noise_multiplier(1e-4, 1e-5, 1.0, 100)


@pytest.mark.parametrize(
    ("epsilon", "q", "steps"),
    [(0.0, 0.1, 10), (math.inf, 0.1, 10), (1.0, 0.0, 10), (1.0, 1.5, 10), (1.0, 0.1, 0)],
)
def test_targets_out_of_range_are_refused(epsilon: float, q: float, steps: int) -> None:
    with pytest.raises(PrivacyError):
        solve_noise_multiplier(epsilon, 1e-5, q, steps)


def test_opacus_gives_the_root_logger_no_handler() -> None:
    root = logging.getLogger()
    before = root.handlers[:]
    with accountant._root_log_kept():
        root.addHandler(logging.NullHandler())  # as Opacus does on import
    assert root.handlers == before
