"""Privacy accountant: epsilon of noisy steps, and the noise multiplier for a target epsilon.

The mechanism is the Poisson-subsampled Gaussian: each patient is in a step with probability q, and
the sum of a step's clipped gradients gets noise of deviation sigma times the clip norm. Two
accountants of Opacus are used. PRV (Gopi et al., arXiv 2106.02848) is tight; its upper bound is
reported. RDP (Mironov et al., arXiv 1908.10530) is looser and cheap: it brackets and checks PRV.
Opacus' third, GDP, is an approximation that can be below the true value, and is never used.
"""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from common.errors import PrivacyError

VERSION = 2
"""Version of the results: raise it with every change of a computed number."""
SIGMA_TOLERANCE = 1e-3
"""Relative tolerance of a solved noise multiplier: it is at most this share above the smallest."""
LEAST_SIGMA = 0.1
MOST_SIGMA = 1000.0
"""Search range of the noise multiplier."""
MOST_POINTS = 1_000_000
"""Largest grid of PRV for a part of a history: its peak memory is some 700 MB."""
MOST_POINTS_TOGETHER = 5 * MOST_POINTS
"""Largest grid over all parts, which bounds the time to about ten seconds."""
MOST_PARTS_REPLACED = 3
"""Largest history for which `replace_one`, which runs PRV several times, uses PRV and not RDP."""
LEAST_PRV_DELTA = 1e-10
"""Below it the rounding of PRV's Fourier transform is no longer small beside delta."""

_EPSILON_ERRORS = (0.01, 0.03, 0.1)
"""PRV's error of epsilon: Opacus' default, and coarser ones where the grid would be too large."""
_FINE_EPSILON_ERROR = 0.001
"""Error where epsilon is below 1, of which 0.01 would be a large part."""


@dataclass(frozen=True)
class Steps:
    """Noisy steps of one kind.

    Attributes:
        sample_rate: probability q of each patient to be in a step, 0 to 1.
        noise_multiplier: sigma, the noise's deviation in clip norms; 0 = no noise.
        steps: number of steps.
    """

    sample_rate: float
    noise_multiplier: float
    steps: int


@dataclass(frozen=True)
class Epsilon:
    """Epsilon of a history at one delta, infinite where there is no guarantee.

    Attributes:
        prv: the reported value: PRV's upper bound, its numerical error included.
        rdp: the bound by RDP.
        accountant: ``PRV``; or ``RDP`` where PRV cannot be computed in bounded memory or to enough
            digits (epsilon in the hundreds, delta below 1e-10), so that both numbers are RDP's.
    """

    prv: float
    rdp: float
    accountant: str = "PRV"


def spent(history: Iterable[Steps], delta: float) -> Epsilon:
    """Return epsilon of all steps composed, of one run or of many.

    The steps may differ in sampling and noise (heterogeneous composition); their order does not
    matter.

    Args:
        history: the steps; parts of the same kind are summed.
        delta: of the (epsilon, delta) guarantee, above 0 and below 1.

    Raises:
        PrivacyError: where a number is out of range, or PRV exceeds RDP by more than its error,
            which would mean that one of them is wrong.
    """
    if not 0.0 < delta < 1.0:
        raise PrivacyError(f"delta must be between 0 and 1, got {delta:g}; use e.g. 1e-5")
    parts = _merged(history)
    if not parts:
        return Epsilon(0.0, 0.0)
    if any(part.noise_multiplier == 0.0 for part in parts):
        return Epsilon(math.inf, math.inf, "RDP")
    rdp = _rdp(parts, delta)
    for error in _errors(rdp):
        prv = _prv(parts, delta, error)
        if prv is None:
            continue
        if prv > rdp + 2 * error:
            raise PrivacyError(
                f"the accountants disagree: PRV gives epsilon {prv:.4g}, RDP's bound is {rdp:.4g}; "
                "train nothing with these settings, and report them"
            )
        return Epsilon(prv, rdp)
    return Epsilon(rdp, rdp, "RDP")


def _merged(history: Iterable[Steps]) -> tuple[Steps, ...]:
    """Validate the parts and sum those of the same kind; drop those that cost nothing."""
    totals: dict[tuple[float, float], int] = {}
    for part in history:
        q, sigma, steps = part.sample_rate, part.noise_multiplier, part.steps
        if not (0.0 <= q <= 1.0 and 0.0 <= sigma < math.inf and steps >= 0):
            raise PrivacyError(
                "steps need a sample rate from 0 to 1, noise and a number of at least 0; "
                f"got sample rate {q:g}, noise multiplier {sigma:g}, {steps} steps"
            )
        if q > 0.0 and steps > 0:
            totals[q, sigma] = totals.get((q, sigma), 0) + steps
    return tuple(Steps(q, sigma, steps) for (q, sigma), steps in sorted(totals.items()))


def _errors(rdp: float) -> tuple[float, ...]:
    return (_FINE_EPSILON_ERROR, *_EPSILON_ERRORS) if rdp < 1.0 else _EPSILON_ERRORS


def _prv(parts: tuple[Steps, ...], delta: float, epsilon_error: float) -> float | None:
    """Return PRV's upper bound, or None where it cannot be computed at this error."""
    points = _points(parts, delta, epsilon_error)
    too_many = points > MOST_POINTS or points * len(parts) > MOST_POINTS_TOGETHER
    if too_many or delta < LEAST_PRV_DELTA:
        return None
    return _composed(parts, delta, epsilon_error)


def _points(parts: Sequence[Steps], delta: float, epsilon_error: float) -> float:
    """Estimate the size of PRV's grid for each part: its domain over its mesh."""
    delta_error = delta / 1000  # Opacus' default
    steps = sum(part.steps for part in parts)
    half_width = max(
        _rdp(parts, delta_error / 4),
        *(
            _rdp([Steps(p.sample_rate, p.noise_multiplier, 1)], delta_error / (8 * steps))
            for p in parts
        ),
    )
    mesh = epsilon_error / math.sqrt(steps * math.log(12 / delta_error) / 2)
    return 2 * (half_width + 3) / mesh


# Takes up to a second, and the solver's last value is the one that the plan then reports.
@lru_cache(maxsize=1024)
def _composed(parts: tuple[Steps, ...], delta: float, epsilon_error: float) -> float | None:
    """Return PRV's upper bound, or None where its own checks fail."""
    with _root_log_kept():
        from opacus.accountants import PRVAccountant

    accountant = PRVAccountant()
    accountant.history = [(p.noise_multiplier, p.sample_rate, p.steps) for p in parts]
    with _quiet():
        try:
            epsilon = float(accountant.get_epsilon(delta, eps_error=epsilon_error))
        except (ValueError, RuntimeError, OverflowError):
            return None
    return max(0.0, epsilon) if math.isfinite(epsilon) else None


def _rdp(parts: Sequence[Steps], delta: float) -> float:
    """Return RDP's bound, as Opacus' `RDPAccountant` computes it."""
    with _root_log_kept():
        from opacus.accountants import RDPAccountant
        from opacus.accountants.analysis.rdp import get_privacy_spent

    with _quiet():
        try:
            curve = sum(
                part.steps * _rdp_of_a_step(part.sample_rate, part.noise_multiplier)
                for part in parts
            )
            orders = RDPAccountant.DEFAULT_ALPHAS
            epsilon, _ = get_privacy_spent(orders=orders, rdp=curve, delta=delta)
        except (ValueError, OverflowError):
            return math.inf
    return math.inf if math.isnan(epsilon) else max(0.0, float(epsilon))


# Takes a fifth of a second, and does not depend on delta or the number of steps.
@lru_cache(maxsize=1024)
def _rdp_of_a_step(sample_rate: float, noise_multiplier: float) -> npt.NDArray[np.float64]:
    """Return the RDP of one step at each of `RDPAccountant`'s orders."""
    with _root_log_kept():
        from opacus.accountants import RDPAccountant
        from opacus.accountants.analysis.rdp import compute_rdp

    orders = RDPAccountant.DEFAULT_ALPHAS
    curve = compute_rdp(q=sample_rate, noise_multiplier=noise_multiplier, steps=1, orders=orders)
    curve.flags.writeable = False
    return np.asarray(curve)


@contextmanager
def _root_log_kept() -> Iterator[None]:
    """Keep the handlers of the root logger: Opacus adds one on import, which repeats every line."""
    root = logging.getLogger()
    before = root.handlers[:]
    try:
        yield
    finally:
        root.handlers[:] = before


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppress Opacus' warnings: the best RDP order at an end of its range, log(0) at q = 1.

    The bound is valid in both cases.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        warnings.simplefilter("ignore", RuntimeWarning)
        yield


def replace_one(history: Iterable[Steps], delta: float) -> Epsilon:
    """Return epsilon for neighbouring tables in which one patient's data are replaced.

    It is larger than for adding or removing a patient, and applies to an attacker who knows that
    the patient is in the table and wants to learn the data. Where every patient is in every step, a
    replaced one changes a sum by at most 2 C: the Gaussian mechanism with half the noise. Otherwise
    a replacement is a removal and an addition: (e, d) for each gives (2 e, d (1 + exp(e))), and the
    largest d is used for which the sum is within delta.

    Args:
        history: the steps.
        delta: of the guarantee.

    Raises:
        PrivacyError: as `spent`.
    """
    parts = _merged(history)
    if any(part.noise_multiplier == 0.0 for part in parts):
        return Epsilon(math.inf, math.inf, "RDP")
    if all(part.sample_rate == 1.0 for part in parts):
        return spent([Steps(1.0, p.noise_multiplier / 2, p.steps) for p in parts], delta)
    rdp = _of_two(lambda one: _rdp(parts, one), delta)
    if len(parts) > MOST_PARTS_REPLACED:
        return Epsilon(rdp, rdp, "RDP")
    prv = _of_two(lambda one: spent(parts, one).prv, delta)
    return Epsilon(min(prv, rdp), rdp, "PRV" if prv < rdp else "RDP")


def _of_two(epsilon_at: Callable[[float], float], delta: float) -> float:
    """Return epsilon at delta of two changes in sequence, from that of each at any delta."""
    each = delta / 2
    for _ in range(100):
        epsilon = epsilon_at(each)
        if epsilon > 300.0:  # no delta is left for the other
            return math.inf
        if each * (1.0 + math.exp(epsilon)) <= delta:
            return 2 * epsilon
        # A smaller delta makes a larger epsilon: the margin lets the search end.
        each = delta / (1.0 + math.exp(epsilon + 0.01))
    return math.inf


# Each round of a run asks for the same one.
@lru_cache(maxsize=1024)
def solve_noise_multiplier(epsilon: float, delta: float, sample_rate: float, steps: int) -> float:
    """Return the smallest noise multiplier that keeps a run within a target epsilon.

    Args:
        epsilon: the target, above 0.
        delta: of the (epsilon, delta) guarantee.
        sample_rate: probability q of each patient to be in a step, above 0, at most 1.
        steps: steps of the whole run, at least 1.

    Returns:
        Sigma, at most `SIGMA_TOLERANCE` (relative) above the smallest in `LEAST_SIGMA` to
        `MOST_SIGMA` whose reported epsilon does not exceed the target. Never below it: the
        returned sigma's epsilon was computed and is within the target.

    Raises:
        PrivacyError: where a number is out of range, or no noise in the range is enough.
    """
    if not 0.0 < epsilon < math.inf:
        raise PrivacyError(f"epsilon must be above 0 and finite, got {epsilon:g}")
    if steps < 1 or not 0.0 < sample_rate <= 1.0:
        raise PrivacyError(
            "a noise multiplier needs at least one step and a sample rate above 0 and at most 1, "
            f"got {steps} steps at {sample_rate:g}"
        )

    def fits(sigma: float) -> bool:
        return spent([Steps(sample_rate, sigma, steps)], delta).prv <= epsilon

    def fits_by_rdp(sigma: float) -> bool:
        return _rdp([Steps(sample_rate, sigma, steps)], delta) <= epsilon

    # RDP is cheap, and a sigma that fits by RDP fits by PRV. RDP gives no epsilon below some 0.1:
    # for such targets PRV searches alone, from 1 upwards.
    high = _first_fit(fits_by_rdp, LEAST_SIGMA)
    if high is not None:
        high = _narrow(fits_by_rdp, max(LEAST_SIGMA, high / 2), high, 1.05)
    if high is None or not fits(high):
        high = _first_fit(fits, max(1.0, high or 1.0))
    if high is None:
        raise PrivacyError(
            f"epsilon {epsilon:g} at delta {delta:g} is out of reach in {steps} steps that sample "
            f"{sample_rate:g} of the patients, even with a noise multiplier of {MOST_SIGMA:g}; "
            "raise privacy.epsilon, or lower rounds, train.steps or privacy.sample-rate"
        )
    low = high
    while low > LEAST_SIGMA:
        low = max(LEAST_SIGMA, high / 1.15)
        if not fits(low):
            break
        high = low
    else:
        return LEAST_SIGMA
    return _narrow(fits, low, high, 1.0 + SIGMA_TOLERANCE)


def _first_fit(fits: Callable[[float], bool], start: float) -> float | None:
    """Return the first of start, 2 start, 4 start, ... `MOST_SIGMA` that fits, or None."""
    sigma = start
    while sigma < MOST_SIGMA:
        if fits(sigma):
            return sigma
        sigma *= 2
    return MOST_SIGMA if fits(MOST_SIGMA) else None


def _narrow(fits: Callable[[float], bool], low: float, high: float, ratio: float) -> float:
    """Bisect between `low`, which does not fit, and `high`, which does; return one that fits."""
    while high / low > ratio:
        middle = math.sqrt(low * high)
        low, high = (low, middle) if fits(middle) else (middle, high)
    return high
