"""What sampled Gaussian steps spend, and how much noise a budget asks for.

The PRV accountant (Gopi et al., arXiv 2106.02848), in Opacus' implementation, gives an upper bound
of epsilon by numerical composition. The RDP accountant (Mironov, arXiv 1702.07476) is looser and
computed quite otherwise, and so stands beside it as a cross-check. Opacus' GDP accountant
approximates from below and is not used.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

from common.errors import PrivacyError

TOLERANCE = 1e-3
"""How far, relative to it, a solved noise multiplier may lie above the smallest that would do."""

EPSILON_ERROR = 0.01
"""The PRV accountant's own error of epsilon; what it returns has it added, as an upper bound."""

LARGEST_EPSILON = 100.0
"""Beyond this a guarantee says nothing, and the numerical composition takes gigabytes."""

LARGEST_NOISE = 1e4


@dataclass(frozen=True)
class Steps:
    """Steps of one kind.

    Attributes:
        sample_rate: the chance q of each patient to be in a step.
        noise_multiplier: sigma, the noise's deviation in clip norms.
        count: how many.
    """

    sample_rate: float
    noise_multiplier: float
    count: int


@dataclass(frozen=True)
class Epsilon:
    """Epsilon at a delta, by both accountants; `prv` is what counts, `rdp` its cross-check."""

    prv: float
    rdp: float


def spent(history: Sequence[Steps], delta: float) -> Epsilon:
    """Return what steps spend together, in whatever order they were taken.

    Args:
        history: the steps; kinds may repeat.
        delta: of the guarantee.

    Raises:
        PrivacyError: where the two accountants contradict each other.
    """
    entries = _merged(history)
    if not entries:
        return Epsilon(0.0, 0.0)
    rdp = _rdp(entries, delta)
    if rdp > LARGEST_EPSILON:
        return Epsilon(rdp, rdp)
    prv = _prv(entries, delta)
    if not prv <= rdp + 2 * EPSILON_ERROR:
        raise PrivacyError(
            f"the accountants contradict each other: epsilon {prv:g} by PRV, {rdp:g} by RDP, which "
            "is an upper bound; nothing is trained on such figures"
        )
    return Epsilon(prv, rdp)


def solve_noise_multiplier(epsilon: float, delta: float, sample_rate: float, steps: int) -> float:
    """Return the least noise multiplier, up to `TOLERANCE`, whose PRV epsilon keeps a budget.

    Args:
        epsilon: the budget.
        delta: of the guarantee.
        sample_rate: the chance q of each patient to be in a step.
        steps: of the whole run; at least one.

    Raises:
        PrivacyError: where no noise multiplier up to `LARGEST_NOISE` keeps the budget.
    """

    def keeps(noise_multiplier: float) -> bool:
        return spent([Steps(sample_rate, noise_multiplier, steps)], delta).prv <= epsilon

    # RDP is an upper bound that costs nothing: what keeps the budget by it keeps it by PRV.
    high = 0.5
    while _rdp([Steps(sample_rate, high, steps)], delta) > epsilon:
        high *= 2
        if high > LARGEST_NOISE:
            raise PrivacyError(
                f"no noise keeps epsilon {epsilon:g} at delta {delta:g} over {steps} steps with "
                f"sample rate {sample_rate:g}; allow more, or take fewer steps or a lower rate"
            )
    low = high / 2
    while keeps(low):
        low, high = low / 2, low
    while high > low * (1 + TOLERANCE):
        middle = math.sqrt(low * high)
        low, high = (low, middle) if keeps(middle) else (middle, high)
    return high


def _merged(history: Sequence[Steps]) -> list[Steps]:
    """One entry a kind, sorted, so that the order in which steps were taken changes no digit."""
    counts: dict[tuple[float, float], int] = {}
    for steps in history:
        key = (steps.sample_rate, steps.noise_multiplier)
        counts[key] = counts.get(key, 0) + steps.count
    return [Steps(*key, count) for key, count in sorted(counts.items()) if count > 0]


def _prv(entries: Sequence[Steps], delta: float) -> float:
    from opacus.accountants import PRVAccountant

    accountant = PRVAccountant()
    accountant.history = _tuples(entries)
    with warnings.catch_warnings():
        # It takes the logarithm of what it then leaves out.
        warnings.simplefilter("ignore", RuntimeWarning)
        return float(accountant.get_epsilon(delta, eps_error=EPSILON_ERROR))


def _rdp(entries: Sequence[Steps], delta: float) -> float:
    from opacus.accountants import RDPAccountant

    accountant = RDPAccountant()
    accountant.history = _tuples(entries)
    with warnings.catch_warnings():
        # "Optimal order is the largest alpha": the bound is then loose, and holds.
        warnings.simplefilter("ignore", UserWarning)
        return float(accountant.get_epsilon(delta))


def _tuples(entries: Sequence[Steps]) -> list[tuple[float, float, int]]:
    return [(one.noise_multiplier, one.sample_rate, one.count) for one in entries]
