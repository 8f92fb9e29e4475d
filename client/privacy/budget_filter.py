"""Rényi privacy filter: a budget for adaptively chosen runs.

The coordinator sees every reply before it requests the next: the plans are adaptive, and so is the
stopping time. Composition theorems for a fixed list of steps do not cover that. A Rényi privacy
filter does (Feldman and Zrnic, arXiv 2008.11193; Lécuyer, arXiv 2103.01379): at one order alpha,
fixed in advance, the Rényi divergences of adaptively chosen steps add up. While their sum is within
B, the whole is (alpha, B)-RDP, however the steps were chosen. B is the largest value that the
conversion to (epsilon, delta) allows.

An accountant of a known history may choose the order afterwards; a filter may not. Here the order
is a function of epsilon and delta alone. It is an integer, at which the divergence of the sampled
Gaussian is a finite sum of positive terms; so no numerical library is needed.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import lru_cache

from client.privacy.accountant import Steps
from common.errors import PrivacyError

ORDERS: tuple[int, ...] = (*range(2, 129), *(round(128 * 1.05**step) for step in range(1, 91)))
"""Candidate orders, up to about 10,000: epsilon 8 needs 3, epsilon 0.005 thousands."""

SHARE_OF_BEST = 0.7
"""Share of the best order for steps of every patient. A lower order costs these some 2 % of
epsilon, and avoids a bound several times too high for runs that sample few patients."""

_ROUNDING = 1.0 + 1e-9
"""Margin on every cost: more than the rounding error of a sum of some thousand terms."""


class BudgetFilter:
    """Budget of all runs together, valid for adaptively chosen runs.

    Args:
        epsilon: epsilon of the guarantee for all runs together, above 0 and finite.
        delta: delta of the guarantee, above 0 and below 1.

    Attributes:
        epsilon_limit: epsilon as given.
        delta: delta as given.
        order: alpha, a function of epsilon and delta alone.
        budget: B, the largest sum of costs that the guarantee allows.

    Raises:
        PrivacyError: where a number is out of range, or epsilon is too small for every order of
            the grid.
    """

    def __init__(self, epsilon: float, delta: float) -> None:
        if not (0.0 < epsilon < math.inf and 0.0 < delta < 1.0):
            raise PrivacyError(
                "a budget needs an epsilon above 0 and a delta between 0 and 1, got "
                f"{epsilon:g} and {delta:g}; use e.g. 8 and 1e-5"
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
        """Return True where further steps fit into the rest of the budget after a history."""
        return self.spent([*history, more]) <= self.budget

    def epsilon(self, history: Iterable[Steps]) -> float:
        """Return epsilon of a history at the filter's delta and order; `admits` bounds it.

        It is a little above an accountant's, which may choose the order afterwards. It is 0 where
        nothing is spent, and infinite without noise.
        """
        total = self.spent(history)
        return max(0.0, total + _conversion(self.order, self.delta)) if total > 0.0 else 0.0


def _order(epsilon: float, delta: float) -> int:
    """Choose alpha from epsilon and delta alone.

    A step of every patient costs in proportion to alpha: one order admits the most of them. The
    cost of a step of few patients rises sharply from some order on, which may be below that one.
    """
    best = max(ORDERS, key=lambda order: (epsilon - _conversion(order, delta)) / order)
    lower = max(2, round(SHARE_OF_BEST * best))
    return lower if epsilon > _conversion(lower, delta) else best


def _conversion(order: int, delta: float) -> float:
    """Return epsilon minus the Rényi divergence (Canonne et al., arXiv 2004.00010)."""
    return math.log1p(-1.0 / order) - (math.log(delta) + math.log(order)) / (order - 1)


@lru_cache(maxsize=1024)
def _of_a_step(sample_rate: float, noise_multiplier: float, order: int) -> float:
    """Return an upper bound of the Rényi divergence of one Poisson-sampled Gaussian step.

    Mironov, Talwar and Zhang (arXiv 1908.10530, section 3.3), for adding and for removing a
    patient, from the moment ``sum_k binom(alpha, k) (1 - q)^(alpha - k) q^k exp((k^2 - k) / 2
    sigma^2)``. The same sum without the exponentials, which is 1, is subtracted term by term: all
    remaining terms are positive, so that no digits cancel.
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
