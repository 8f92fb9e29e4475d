"""A lower bound of epsilon from an attack's hits and misses, with its confidence.

An (epsilon, delta)-private answer lets no event be more likely with a patient than without by more
than P <= exp(epsilon) Q + delta. So an event that is seen often with and seldom without, in trials
of both, bounds epsilon from below (Jagielski, Ullman and Oprea, arXiv 2006.07709; Nasr et al.,
arXiv 2101.04535). The rates are bounded by Clopper and Pearson's interval, which is exact.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

Scores = npt.NDArray[np.float64]

CONFIDENCE = 0.95
"""Of every bound here, one-sided."""

_NORMAL = NormalDist()


@dataclass(frozen=True)
class Measured:
    """What an attack measured of epsilon.

    Attributes:
        low: epsilon is at least this, with `CONFIDENCE`; 0 where nothing can be told.
        high: the same event says no more than this; infinite where it was never seen on one side.
        gaussian: the lower bound where the answer is taken for a Gaussian mechanism's, which one
            threshold in the middle tells (Nasr et al., arXiv 2302.07956). It needs far fewer
            trials: T of them can show no more than ln T otherwise.
        trials: of each of the two tables, judged.
        often: share of one table's trials in which the event was seen.
        seldom: share of the other's.
    """

    low: float
    high: float
    gaussian: float
    trials: int
    often: float
    seldom: float


def measure(with_patient: Scores, without: Scores, delta: float) -> Measured:
    """Bound epsilon by the best event that a threshold on a score makes.

    The threshold and its side are chosen on the first half of the trials and judged on the second:
    chosen and judged on the same ones it would flatter the attack.

    Args:
        with_patient: ``[T]``, the attacker's score in each trial with the patient.
        without: ``[T]``, of those without.
        delta: of the guarantee.
    """
    half = len(with_patient) // 2
    pairs = ((with_patient, without), (without, with_patient))  # each may be the one seen often
    events = [
        (*_best_threshold(side * first[:half], side * second[:half]), side, first, second)
        for first, second in pairs
        for side in (1.0, -1.0)
    ]
    _, threshold, side, first, second = max(events, key=lambda event: event[0])
    trials = len(first) - half
    often = int((side * first[half:] > threshold).sum())
    seldom = int((side * second[half:] > threshold).sum())
    low, high = epsilon_interval(often, seldom, trials, delta)
    return Measured(
        low=max(0.0, low),
        high=max(0.0, high),
        gaussian=_gaussian(with_patient, without, delta),
        trials=trials,
        often=often / trials,
        seldom=seldom / trials,
    )


def epsilon_interval(often: int, seldom: int, trials: int, delta: float) -> tuple[float, float]:
    """Return the lower and the upper bound of epsilon that one event tells.

    Args:
        often: trials of the one table in which it was seen.
        seldom: trials of the other.
        trials: of each.
        delta: of the guarantee.

    Returns:
        ``ln((P - delta) / Q)``, from the least P and the largest Q, and the other way round. Each
        of the two bounds holds with `CONFIDENCE`.
    """
    outside = (1.0 - CONFIDENCE) / 2  # a share for P and one for Q
    often_low, often_high = binomial_interval(often, trials, outside)
    seldom_low, seldom_high = binomial_interval(seldom, trials, outside)
    return _log_ratio(often_low - delta, seldom_high), _log_ratio(often_high - delta, seldom_low)


def binomial_interval(hits: int, trials: int, outside: float) -> tuple[float, float]:
    """Return Clopper and Pearson's interval of a rate (Biometrika 1934).

    Args:
        hits: how often it happened.
        trials: of how many.
        outside: the probability beyond either end.
    """
    from scipy.special import betaincinv

    low = float(betaincinv(hits, trials - hits + 1, outside)) if hits else 0.0
    high = float(betaincinv(hits + 1, trials - hits, 1.0 - outside)) if hits < trials else 1.0
    return low, high


def gaussian_epsilon(mu: float, delta: float) -> float:
    """Return epsilon of the Gaussian mechanism whose answers are `mu` deviations apart.

    Dong, Roth and Su (arXiv 1905.02383), corollary 2.13.
    """

    def excess(epsilon: float) -> float:
        above, below = _below(mu / 2 - epsilon / mu), _below(-mu / 2 - epsilon / mu)
        return above - (math.exp(epsilon) * below if below > 0.0 else 0.0) - delta

    low, high = 0.0, 700.0
    if mu <= 0.0 or excess(low) <= 0.0:
        return 0.0
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if excess(middle) > 0.0 else (low, middle)
    return low


def _gaussian(with_patient: Scores, without: Scores, delta: float) -> float:
    """Bound epsilon from below by how far the two Gaussians of a score are apart."""
    half = len(with_patient) // 2
    side = 1.0 if with_patient[:half].mean() > without[:half].mean() else -1.0
    middle = side * (with_patient[:half].mean() + without[:half].mean()) / 2
    trials = len(with_patient) - half
    outside = (1.0 - CONFIDENCE) / 2
    missed = int((side * with_patient[half:] <= middle).sum())
    false = int((side * without[half:] > middle).sum())
    rates = [binomial_interval(count, trials, outside)[1] for count in (missed, false)]
    if max(rates) >= 1.0:
        return 0.0
    return gaussian_epsilon(-sum(_NORMAL.inv_cdf(rate) for rate in rates), delta)


def _best_threshold(often: Scores, seldom: Scores) -> tuple[float, float]:
    """Return the threshold whose event bounds epsilon best, roughly, and that rough bound."""
    seen = np.unique(np.concatenate([often, seldom]))
    thresholds = np.concatenate([seen[:1] - 1.0, (seen[1:] + seen[:-1]) / 2])
    trials = len(often)
    hits = trials - np.searchsorted(np.sort(often), thresholds, side="right")
    false = trials - np.searchsorted(np.sort(seldom), thresholds, side="right")
    least = np.maximum(hits - 2 * np.sqrt(hits), 1e-3)
    bounds = np.log(least / (false + 2 * np.sqrt(false) + 4))
    # Of equals the one in the middle: the furthest from what the other half may bring.
    best = int(np.median(np.flatnonzero(bounds > bounds.max() - 1e-9)))
    return float(bounds[best]), float(thresholds[best])


def _below(deviations: float) -> float:
    """Return the normal distribution's tail, with all its digits."""
    return 0.5 * math.erfc(-deviations / math.sqrt(2.0))


def _log_ratio(above: float, below: float) -> float:
    if above <= 0.0:
        return -math.inf
    return math.log(above / below) if below > 0.0 else math.inf
