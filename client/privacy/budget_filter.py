"""A budget for runs that are chosen one after the other, each in the light of the former ones.

Whoever orders the runs sees every answer before asking for the next: the plans are adaptive, and
so is when to stop. A theorem for a fixed list of steps does not cover that. A Rényi privacy filter
does (Feldman and Zrnic, arXiv 2008.11193; Lécuyer, arXiv 2103.01379): at one order alpha, fixed
before anything is seen, the Rényi divergences of adaptively chosen steps add up. As long as their
sum stays within B, the whole is (alpha, B)-RDP, however the steps were chosen. B is the largest
that the conversion to (epsilon, delta) allows.

The order must not be chosen after the fact, as an accountant of a known history may do. Here it is
a function of epsilon and delta alone. It is a whole number, at which the divergence of the sampled
Gaussian is a finite sum of positive terms; so no numerical library is needed.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import lru_cache

from client.privacy.accountant import Steps
from common.errors import PrivacyError

ORDERS: tuple[int, ...] = (*range(2, 129), *(round(128 * 1.05**step) for step in range(1, 91)))
"""The orders that are looked at, to about 10,000: epsilon 8 needs 3, epsilon 0.005 thousands."""

SHARE_OF_BEST = 0.7
"""Of the order that suits steps of every patient best: a lower one costs these some 2 % of epsilon,
and spares runs that sample few patients from a bound several times too high."""

_ROUNDING = 1.0 + 1e-9
"""On every cost: more than what double precision loses in a sum of some thousand terms."""


class BudgetFilter:
    """What all runs together may spend, proved for runs that are chosen adaptively.

    Args:
        epsilon: of the (epsilon, delta) promise for all runs together, above 0 and finite.
        delta: of it, above 0 and below 1.

    Attributes:
        epsilon_limit: epsilon as given.
        delta: as given.
        order: alpha, a function of epsilon and delta alone.
        budget: B, the largest sum of costs that the promise allows.

    Raises:
        PrivacyError: where a number is out of range, or epsilon is so small that no order of the
            grid can show it.
    """

    def __init__(self, epsilon: float, delta: float) -> None:
        if not (0.0 < epsilon < math.inf and 0.0 < delta < 1.0):
            raise PrivacyError(
                "a budget needs an epsilon above 0 and a delta between 0 and 1, got "
                f"{epsilon:g} and {delta:g}; take e.g. 8 and 1e-5"
            )
        self.epsilon_limit = epsilon
        self.delta = delta
        self.order = _order(epsilon, delta)
        self.budget = epsilon - _conversion(self.order, delta)
        if self.budget <= 0.0:
            raise PrivacyError(
                f"a budget of epsilon {epsilon:g} at delta {delta:g} admits no step at all; "
                "raise epsilon"
            )

    def cost(self, steps: Steps) -> float:
        """Return the Rényi divergence of some steps at the filter's order, infinite without noise.

        Raises:
            PrivacyError: where a number of the steps is out of range.
        """
        q, sigma, count = steps.sample_rate, steps.noise_multiplier, steps.steps
        if not (0.0 <= q <= 1.0 and 0.0 <= sigma < math.inf and count >= 0):
            raise PrivacyError(
                "steps need a sample rate from 0 to 1, noise and a number of at least 0; "
                f"got sample rate {q:g}, noise multiplier {sigma:g}, {count} steps"
            )
        if q == 0.0 or count == 0:
            return 0.0
        return count * _of_a_step(q, sigma, self.order)

    def spent(self, history: Iterable[Steps]) -> float:
        """Return the sum of the costs of a history, to compare with `budget`."""
        return math.fsum(self.cost(steps) for steps in history)

    def admits(self, history: Iterable[Steps], more: Steps) -> bool:
        """Whether further steps fit into what a history has left of the budget."""
        return self.spent([*history, more]) <= self.budget

    def epsilon(self, history: Iterable[Steps]) -> float:
        """Return epsilon of a history at the filter's delta and order; `admits` bounds it.

        It is a little above what an accountant of a fixed list of steps reports, which may choose
        the order afterwards. Nothing spent is 0; no noise is infinite.
        """
        total = self.spent(history)
        return max(0.0, total + _conversion(self.order, self.delta)) if total > 0.0 else 0.0


def _order(epsilon: float, delta: float) -> int:
    """Choose alpha by epsilon and delta alone.

    A step of every patient costs in proportion to alpha: one order admits the most of them. The
    cost of a step of few patients leaps up from some order on, which may lie below that one.
    """
    best = max(ORDERS, key=lambda order: (epsilon - _conversion(order, delta)) / order)
    lower = max(2, round(SHARE_OF_BEST * best))
    return lower if epsilon > _conversion(lower, delta) else best


def _conversion(order: int, delta: float) -> float:
    """Return what epsilon exceeds the Rényi divergence by (Canonne et al., arXiv 2004.00010)."""
    return math.log1p(-1.0 / order) - (math.log(delta) + math.log(order)) / (order - 1)


@lru_cache(maxsize=1024)
def _of_a_step(sample_rate: float, noise_multiplier: float, order: int) -> float:
    """Return the Rényi divergence of one step of the Poisson-sampled Gaussian, an upper bound.

    Mironov, Talwar and Zhang (arXiv 1908.10530, section 3.3), for adding and for removing a
    patient: of the moment ``sum_k binom(alpha, k) (1 - q)^(alpha - k) q^k exp((k^2 - k) / 2
    sigma^2)``, less the same sum without the exponentials, which is 1. What remains has positive
    terms alone, so that no digits cancel.
    """
    if noise_multiplier == 0.0:
        return math.inf
    if sample_rate == 1.0:
        return _ROUNDING * order / 2.0 / noise_multiplier / noise_multiplier
    chance, other = math.log(sample_rate), math.log1p(-sample_rate)
    terms = [
        _log_binomial(order, k)
        + k * chance
        + (order - k) * other
        + _log_expm1(k * (k - 1) / 2.0 / noise_multiplier / noise_multiplier)
        for k in range(2, order + 1)
    ]
    largest = max(terms)
    if not math.isfinite(largest):
        return math.inf if largest > 0.0 else 0.0
    log_excess = largest + math.log(math.fsum(math.exp(term - largest) for term in terms))
    log_moment = math.log1p(math.exp(log_excess)) if log_excess < 30.0 else log_excess + 1e-13
    return _ROUNDING * log_moment / (order - 1)


def _log_binomial(above: int, below: int) -> float:
    return math.lgamma(above + 1) - math.lgamma(below + 1) - math.lgamma(above - below + 1)


def _log_expm1(exponent: float) -> float:
    """Return log(exp(x) - 1) of x >= 0 without overflow."""
    if exponent > 30.0:
        return exponent
    return math.log(math.expm1(exponent)) if exponent > 0.0 else -math.inf
