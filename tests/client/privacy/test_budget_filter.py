from __future__ import annotations

import math
import subprocess
import sys
from decimal import MAX_EMAX, MIN_EMIN, Decimal, localcontext

import pytest
from dp_accounting import GaussianDpEvent, PoissonSampledDpEvent
from dp_accounting.rdp import rdp_privacy_accountant
from hypothesis import given, settings
from hypothesis import strategies as st

from client.privacy.accountant import Steps
from client.privacy.budget_filter import BudgetFilter
from common.errors import PrivacyError

GRID = [
    (1.0, 0.7),
    (1.0, 40.0),
    (0.5, 5.0),
    (0.1, 1.0),
    (0.1, 0.3),
    (0.01, 0.5),
    (1e-3, 50.0),
    (1e-4, 1.0),
]
BUDGETS = [(8.0, 1e-5), (3.0, 1e-6), (1.0, 1e-5), (0.1, 1e-5)]


def slow_cost(q: float, sigma: float, order: int) -> float:
    """The moment as the paper writes it, to sixty digits: nothing cancels, nothing overflows."""
    with localcontext() as context:
        context.prec, context.Emax, context.Emin = 60, MAX_EMAX, MIN_EMIN
        chance, noise = Decimal(q), Decimal(sigma)
        moment = sum(
            Decimal(math.comb(order, k))
            * (1 - chance) ** (order - k)
            * chance**k
            * (Decimal(k * (k - 1)) / (2 * noise * noise)).exp()
            for k in range(order + 1)
        )
        return float(Decimal(moment).ln() / (order - 1))


@settings(max_examples=60)
@given(
    q=st.floats(1e-6, 0.999999),
    sigma=st.floats(0.05, 1000.0),
    budget=st.sampled_from(BUDGETS),
    steps=st.integers(1, 10_000),
)
def test_a_cost_is_the_moment_of_the_paper_and_never_below_it(
    q: float, sigma: float, budget: tuple[float, float], steps: int
) -> None:
    filter_ = BudgetFilter(*budget)
    wanted = steps * slow_cost(q, sigma, filter_.order)
    assert wanted <= filter_.cost(Steps(q, sigma, steps)) <= wanted * (1 + 2e-9)


@pytest.mark.parametrize(("q", "sigma"), GRID)
@pytest.mark.parametrize("budget", BUDGETS)
def test_a_cost_is_that_of_opacus_and_of_dp_accounting(
    q: float, sigma: float, budget: tuple[float, float]
) -> None:
    from opacus.accountants.analysis.rdp import compute_rdp

    filter_ = BudgetFilter(*budget)
    cost = filter_.cost(Steps(q, sigma, 7))
    opacus = compute_rdp(q=q, noise_multiplier=sigma, steps=7, orders=[filter_.order])[0]
    other = rdp_privacy_accountant.RdpAccountant(orders=[filter_.order])
    other.compose(PoissonSampledDpEvent(q, GaussianDpEvent(sigma)), 7)
    assert cost == pytest.approx(opacus, rel=1e-6)
    assert cost == pytest.approx(other._rdp[0], rel=1e-6)


@pytest.mark.parametrize(("epsilon", "delta"), BUDGETS)
def test_a_history_that_is_admitted_is_within_epsilon_by_dp_accounting(
    epsilon: float, delta: float
) -> None:
    filter_ = BudgetFilter(epsilon, delta)
    other = rdp_privacy_accountant.RdpAccountant(orders=[filter_.order])
    history: list[Steps] = []
    noise = 1.0 + 8.0 / epsilon
    kinds = [Steps(1.0, 6 * noise, 3), Steps(0.1, 4 * noise, 50), Steps(0.5, 9 * noise, 20)]
    for number in range(10_000):
        more = kinds[number % len(kinds)]
        if not filter_.admits(history, more):
            break
        history.append(more)
        gaussian = GaussianDpEvent(more.noise_multiplier)
        other.compose(PoissonSampledDpEvent(more.sample_rate, gaussian), more.steps)
    assert history
    stated = filter_.epsilon(history)
    assert other.get_epsilon(delta) == pytest.approx(stated, rel=1e-6)
    assert 0.8 * epsilon < stated <= epsilon
    assert not filter_.admits(history, more)


@pytest.mark.parametrize(("epsilon", "order"), [(8.0, 3), (3.0, 6), (1.0, 13), (0.1, 88)])
def test_the_order_depends_on_epsilon_and_delta_alone(epsilon: float, order: int) -> None:
    filter_ = BudgetFilter(epsilon, 1e-5)
    assert filter_.order == order
    filter_.admits([Steps(0.01, 0.5, 1000)], Steps(1.0, 3.0, 10))
    assert filter_.order == order


@pytest.mark.parametrize(
    ("epsilon", "steps"),
    [
        (1.0, Steps(1.0, 11.91, 10)),
        (3.0, Steps(1.0, 4.413, 10)),
        (3.0, Steps(0.02, 0.967, 500)),
        (8.0, Steps(1.0, 1.9, 10)),
        (8.0, Steps(0.1, 0.805, 50)),
    ],
)
def test_a_run_of_that_epsilon_costs_little_more_by_the_filter(
    epsilon: float, steps: Steps
) -> None:
    """It was solved by PRV, which knows the steps beforehand."""
    stated = BudgetFilter(epsilon, 1e-5).epsilon([steps])
    assert epsilon < stated < 1.25 * epsilon


def test_the_exhausted_budget_is_the_given_epsilon() -> None:
    filter_ = BudgetFilter(3.0, 1e-5)
    sigma = math.sqrt(filter_.order / 2.0 / (filter_.budget * (1 - 1e-8)))
    assert filter_.admits([], Steps(1.0, sigma, 1))
    assert filter_.epsilon([Steps(1.0, sigma, 1)]) == pytest.approx(3.0, abs=1e-6)
    assert not filter_.admits([Steps(1.0, sigma, 1)], Steps(1.0, 1000.0, 1))


def test_no_steps_cost_nothing_and_no_noise_is_infinite() -> None:
    filter_ = BudgetFilter(1.0, 1e-5)
    assert filter_.cost(Steps(0.0, 0.0, 9)) == filter_.cost(Steps(0.5, 0.0, 0)) == 0.0
    assert filter_.epsilon([]) == 0.0
    assert filter_.cost(Steps(1e-9, 0.0, 1)) == math.inf
    assert filter_.cost(Steps(0.3, 1e-170, 1)) == math.inf
    assert not filter_.admits([Steps(0.1, 0.0, 1)], Steps(0.1, 1000.0, 0))
    assert filter_.epsilon([Steps(0.1, 0.0, 1)]) == math.inf


@pytest.mark.parametrize(
    "steps",
    [
        Steps(1.1, 1.0, 1),
        Steps(0.1, -9.9e-123, 1),
        Steps(0.1, math.nan, 1),
        Steps(0.1, math.inf, 1),
        Steps(math.nan, 1.0, 1),
        Steps(0.1, 1.0, -1),
    ],
)
def test_steps_out_of_range_are_refused(steps: Steps) -> None:
    with pytest.raises(PrivacyError):
        BudgetFilter(1.0, 1e-5).admits([], steps)


@pytest.mark.parametrize(
    ("epsilon", "delta"),
    [(0.0, 1e-5), (math.inf, 1e-5), (math.nan, 1e-5), (1.0, 0.0), (1.0, 1.0), (1e-5, 1e-5)],
)
def test_a_budget_out_of_range_is_refused(epsilon: float, delta: float) -> None:
    with pytest.raises(PrivacyError):
        BudgetFilter(epsilon, delta)


def test_no_library_is_imported() -> None:
    code = (
        "import sys; from client.privacy.budget_filter import BudgetFilter; "
        "from client.privacy.accountant import Steps; "
        "BudgetFilter(8.0, 1e-5).cost(Steps(0.1, 1.0, 10)); "
        "print([name for name in ('torch', 'opacus', 'scipy') if name in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
