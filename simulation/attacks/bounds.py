"""Lower bound of epsilon, with its confidence, from the hits and misses of an attack.

For an (epsilon, delta)-private reply the probabilities P and Q of any event with and without a
patient satisfy P <= exp(epsilon) Q + delta. An event that is frequent in trials with the patient
and rare without therefore bounds epsilon from below (Jagielski, Ullman and Oprea, arXiv 2006.07709;
Nasr et al., arXiv 2101.04535). The rates are bounded by Clopper and Pearson's exact interval.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

Scores = npt.NDArray[np.float64]

BOUND_CONFIDENCE = 0.95
"""One-sided confidence of every bound here."""

_NORMAL = NormalDist()


@dataclass(frozen=True)
class EpsilonBound:
    """Bounds of epsilon from an attack.

    Attributes:
        low: epsilon is at least this, with `BOUND_CONFIDENCE`; 0 if nothing can be inferred.
        high: upper bound from the same event; infinite if it never occurred on one side.
        gaussian: lower bound under the assumption of a Gaussian mechanism, from one threshold in
            the middle (Nasr et al., arXiv 2302.07956). It needs far fewer trials: T trials can show
            at most ln T otherwise.
        trials: evaluated trials of each of the two tables.
        often: share of one table's trials with the event.
        seldom: share of the other table's trials with the event.
    """

    low: float
    high: float
    gaussian: float
    trials: int
    often: float
    seldom: float


def bound_epsilon(with_patient: Scores, without: Scores, delta: float) -> EpsilonBound:
    """Bound epsilon by the best threshold event on a score.

    The threshold and its side are chosen on the first half of the trials and evaluated on the
    second, since evaluation on the same trials would overstate the attack.

    Args:
        with_patient: ``[T]``, the attacker's score in each trial with the patient.
        without: ``[T]``, the score in each trial without.
        delta: delta of the guarantee.
    """
    half = len(with_patient) // 2
    pairs = (
        (with_patient, without),
        (without, with_patient),
    )  # the event may be frequent on either side
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
    return EpsilonBound(
        low=max(0.0, low),
        high=max(0.0, high),
        gaussian=_gaussian(with_patient, without, delta),
        trials=trials,
        often=often / trials,
        seldom=seldom / trials,
    )


def epsilon_interval(often: int, seldom: int, trials: int, delta: float) -> tuple[float, float]:
    """Return the lower and the upper bound of epsilon from one event.

    Args:
        often: trials of the one table with the event.
        seldom: trials of the other table with the event.
        trials: trials of each.
        delta: delta of the guarantee.

    Returns:
        ``ln((P - delta) / Q)`` from the lowest P and the highest Q, and from the highest P and the
        lowest Q. Each bound holds with `BOUND_CONFIDENCE`.
    """
    tail = (1.0 - BOUND_CONFIDENCE) / 2  # half each for P and Q
    often_low, often_high = binomial_interval(often, trials, tail)
    seldom_low, seldom_high = binomial_interval(seldom, trials, tail)
    return _log_ratio(often_low - delta, seldom_high), _log_ratio(often_high - delta, seldom_low)


def binomial_interval(hits: int, trials: int, tail: float) -> tuple[float, float]:
    """Return Clopper and Pearson's interval of a rate (Biometrika 1934).

    Args:
        hits: number of hits.
        trials: number of trials.
        tail: probability beyond either end.
    """
    from scipy.special import betaincinv

    low = float(betaincinv(hits, trials - hits + 1, tail)) if hits else 0.0
    high = float(betaincinv(hits + 1, trials - hits, 1.0 - tail)) if hits < trials else 1.0
    return low, high


def gaussian_epsilon(mu: float, delta: float) -> float:
    """Return epsilon of a Gaussian mechanism whose outputs are `mu` deviations apart.

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
    """Bound epsilon from below by the distance of the two Gaussians of a score."""
    half = len(with_patient) // 2
    side = 1.0 if with_patient[:half].mean() > without[:half].mean() else -1.0
    middle = side * (with_patient[:half].mean() + without[:half].mean()) / 2
    trials = len(with_patient) - half
    tail = (1.0 - BOUND_CONFIDENCE) / 2
    missed = int((side * with_patient[half:] <= middle).sum())
    false = int((side * without[half:] > middle).sum())
    rates = [binomial_interval(count, trials, tail)[1] for count in (missed, false)]
    if max(rates) >= 1.0:
        return 0.0
    return gaussian_epsilon(-sum(_NORMAL.inv_cdf(rate) for rate in rates), delta)


def _best_threshold(often: Scores, seldom: Scores) -> tuple[float, float]:
    """Return an approximation of the best bound, and its threshold."""
    seen = np.unique(np.concatenate([often, seldom]))
    thresholds = np.concatenate([seen[:1] - 1.0, (seen[1:] + seen[:-1]) / 2])
    trials = len(often)
    hits = trials - np.searchsorted(np.sort(often), thresholds, side="right")
    false = trials - np.searchsorted(np.sort(seldom), thresholds, side="right")
    least = np.maximum(hits - 2 * np.sqrt(hits), 1e-3)
    bounds = np.log(least / (false + 2 * np.sqrt(false) + 4))
    # Of equal thresholds the middle one, which is the most robust on the other half.
    best = int(np.median(np.flatnonzero(bounds > bounds.max() - 1e-9)))
    return float(bounds[best]), float(thresholds[best])


def _below(deviations: float) -> float:
    """Return the lower tail of the normal distribution, accurate for small probabilities."""
    return 0.5 * math.erfc(-deviations / math.sqrt(2.0))


def _log_ratio(above: float, below: float) -> float:
    if above <= 0.0:
        return -math.inf
    return math.log(above / below) if below > 0.0 else math.inf
