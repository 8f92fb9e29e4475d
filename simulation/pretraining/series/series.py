"""Synthetic series of generic families, drawn from a seed.

No family, rate or level is modelled on vital signs or on any clinical record, since the published
foundation models have no such prior either. The families are the textbook processes of time-series
analysis; mixing follows TSMixup (Ansari et al., "Chronos:
Learning the Language of Time Series", arXiv 2403.07815, algorithm 1).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt

from common.errors import UsageError
from simulation.pretraining.series.kernel_synth import kernel_synth

Array = npt.NDArray[np.float64]
SeriesFamily = Callable[[np.random.Generator, int, int], Array]

SERIES_FAMILIES: dict[str, SeriesFamily] = {"kernel_synth": kernel_synth}
"""Families by name: ``(rng, count, length) -> [count, length]``, in any unit."""

_BURN_IN = 64
_MIXUP_CONCENTRATION = 1.5


def _family(function: SeriesFamily) -> SeriesFamily:
    SERIES_FAMILIES[function.__name__] = function
    return function


def draw_series(
    rng: np.random.Generator, count: int, length: int, mix: Mapping[str, float]
) -> npt.NDArray[np.float32]:
    """Draw standardised series of several families, in random order.

    Args:
        rng: source of all randomness.
        count: number of series.
        length: steps of each.
        mix: share of each family; the shares need not sum to one.

    Returns:
        ``[count, length]``, each series with mean 0 and standard deviation 1.

    Raises:
        UsageError: a family is unknown or no share is positive.
    """
    unknown = sorted(set(mix) - set(SERIES_FAMILIES))
    if unknown or not sum(mix.values()) > 0:
        raise UsageError(
            f"family mix: got {dict(mix)}; give at least one positive share of "
            f"{sorted(SERIES_FAMILIES)}"
        )
    edges = np.cumsum([0.0, *mix.values()]) / sum(mix.values())
    bounds = np.rint(edges * count).astype(int)
    rows = [
        SERIES_FAMILIES[name](rng, int(stop - start), length)
        for name, start, stop in zip(mix, bounds[:-1], bounds[1:], strict=True)
    ]
    series = standardise(np.concatenate(rows))
    return series[rng.permutation(count)].astype(np.float32)


def mix_series(
    rng: np.random.Generator, rows: Array, pool: npt.NDArray[np.float32], probability: float
) -> Array:
    """Add to some rows one or two series of the pool with Dirichlet(1.5) weights (TSMixup).

    Args:
        rng: source of all randomness.
        rows: standardised series ``[batch, length]``.
        pool: standardised series ``[n, length]`` to draw from.
        probability: share of rows that are mixed.

    Returns:
        ``[batch, length]``.
    """
    count = len(rows)
    parts = 2 + rng.integers(0, 2, count)  # series in the mixture, the row itself included
    gamma = rng.gamma(_MIXUP_CONCENTRATION, size=(count, 3))
    gamma[:, 2] *= parts > 2
    weights = gamma / gamma.sum(axis=1, keepdims=True)
    others = pool[rng.integers(0, len(pool), (count, 2))]  # [batch, 2, length]
    mixed = weights[:, :1] * rows + np.einsum("bk,bkt->bt", weights[:, 1:], others)
    return np.where(rng.random((count, 1)) < probability, mixed, rows)


def standardise(series: Array) -> Array:
    """Scale each row to mean 0 and standard deviation 1; a constant row becomes zeros."""
    centred = series - series.mean(axis=1, keepdims=True)
    deviation = centred.std(axis=1, keepdims=True)
    return np.asarray(centred / np.where(deviation > 1e-9, deviation, 1.0))


@_family
def season_and_trend(rng: np.random.Generator, count: int, length: int) -> Array:
    """Piecewise linear trend + one to three harmonic seasons + noise.

    Periods are log-uniform in 4 to 128 steps with up to four harmonics of falling amplitude; the
    slope changes at one random step; half of the seasons grow or shrink with time; the noise's
    deviation is log-uniform in .02 to 1 of the season's.
    """
    time = np.arange(length, dtype=np.float64)
    season = np.zeros((count, length))
    for _ in range(3):
        period = _log_uniform(rng, 4.0, 128.0, (count, 1))
        present = (rng.random((count, 1)) < 0.5) * rng.gamma(2.0, 0.5, (count, 1))
        for harmonic in range(1, 5):
            phase = rng.uniform(0.0, 2 * np.pi, (count, 1))
            height = rng.standard_normal((count, 1)) / harmonic
            season += present * height * np.sin(2 * np.pi * harmonic * time / period + phase)
    growth = rng.uniform(-0.8, 2.0, (count, 1)) * (rng.random((count, 1)) < 0.5)
    season *= 1.0 + growth * time / length
    bend = rng.uniform(0.0, length, (count, 1))
    slopes = rng.standard_normal((2, count, 1)) * _log_uniform(rng, 0.1, 10.0, (count, 1)) / length
    trend = slopes[0] * time + slopes[1] * np.maximum(time - bend, 0.0)
    noise = _log_uniform(rng, 0.02, 1.0, (count, 1)) * _innovations(rng, count, length)
    return np.asarray(season + trend + noise)


@_family
def level_shifts(rng: np.random.Generator, count: int, length: int) -> Array:
    """A piecewise constant level that is reached at once or exponentially, + noise.

    Shifts come with a probability per step log-uniform in 1/200 to 1/10 and Laplace heights; half
    of the levels forget what they were, half add up; the way to a new level has a time constant
    of 0 to 12 steps; the noise's deviation is log-uniform in .02 to 1 of the shifts'.
    """
    shift = rng.random((count, length)) < _log_uniform(rng, 0.005, 0.1, (count, 1))
    height = rng.laplace(size=(count, length))
    keep = np.where(rng.random((count, 1)) < 0.5, 1.0, 0.0)
    lag = np.exp(-1.0 / rng.uniform(1e-3, 12.0, (count, 1))) * (rng.random((count, 1)) < 0.5)
    goal = rng.laplace(size=count)
    level = goal.copy()
    out = np.empty((count, length))
    for step in range(length):
        goal = np.where(shift[:, step], keep[:, 0] * goal + height[:, step], goal)
        level = lag[:, 0] * level + (1.0 - lag[:, 0]) * goal
        out[:, step] = level
    return out + _log_uniform(rng, 0.02, 1.0, (count, 1)) * _innovations(rng, count, length)


@_family
def arma(rng: np.random.Generator, count: int, length: int) -> Array:
    """Stationary ARMA(p, q), p up to 4 and q up to 2, with Gaussian or heavy-tailed innovations.

    Partial autocorrelations are uniform, the first in -.4 to .99, the others in -.6 to .6; so
    every draw is stationary (Barndorff-Nielsen and Schou, J. Multivariate Anal. 3, 1973).
    """
    partial = rng.uniform(-0.6, 0.6, (count, 4))
    partial[:, 0] = rng.uniform(-0.4, 0.99, count)
    partial *= np.arange(4) < rng.integers(1, 5, (count, 1))
    moving = rng.uniform(-0.8, 0.8, (count, 2)) * (np.arange(2) < rng.integers(0, 3, (count, 1)))
    noise = _innovations(rng, count, length + _BURN_IN)
    shocks = noise.copy()
    shocks[:, 1:] += moving[:, :1] * noise[:, :-1]
    shocks[:, 2:] += moving[:, 1:] * noise[:, :-2]
    return _autoregress(shocks, _ar_coefficients(partial))[:, _BURN_IN:]


@_family
def damped_oscillation(rng: np.random.Generator, count: int, length: int) -> Array:
    """Rare Laplace shocks to a damped second-order system, + noise.

    Poles have a modulus of .7 to .995 and a period log-uniform in 5 to 100 steps; shocks come
    with a probability per step log-uniform in 1/100 to 1/5.
    """
    modulus = 1.0 - _log_uniform(rng, 0.005, 0.3, count)
    angle = 2 * np.pi / _log_uniform(rng, 5.0, 100.0, count)
    coefficients = np.stack([2 * modulus * np.cos(angle), -(modulus**2)], axis=1)
    steps = length + _BURN_IN
    hit = rng.random((count, steps)) < _log_uniform(rng, 0.01, 0.2, (count, 1))
    path = _autoregress(hit * rng.laplace(size=(count, steps)), coefficients)[:, _BURN_IN:]
    path = standardise(path)
    return path + _log_uniform(rng, 0.02, 1.0, (count, 1)) * _innovations(rng, count, length)


@_family
def garch(rng: np.random.Generator, count: int, length: int) -> Array:
    """GARCH(1,1) returns, or their running sum in half of the series.

    Persistence alpha + beta is uniform in .7 to .999, alpha's share of it in .05 to .4; innovations
    are Gaussian or Student's t (Bollerslev, J. Econometrics 31, 1986).
    """
    persistence = rng.uniform(0.7, 0.999, count)
    alpha = persistence * rng.uniform(0.05, 0.4, count)
    beta = persistence - alpha
    noise = _innovations(rng, count, length)
    variance = np.ones(count)
    returns = np.empty((count, length))
    for step in range(length):
        returns[:, step] = np.sqrt(variance) * noise[:, step]
        # Bounded, for a heavy tail and a persistence near one can run away within 256 steps.
        fed = alpha * returns[:, step] ** 2 + beta * variance + 1.0 - persistence
        variance = np.minimum(fed, 1e4)
    return np.where(rng.random((count, 1)) < 0.5, np.cumsum(returns, axis=1), returns)


@_family
def random_walk(rng: np.random.Generator, count: int, length: int) -> Array:
    """A random walk with drift that moves at some steps only, + observation noise.

    The probability of a move is uniform in .05 to 1; a quarter has a local linear trend whose
    slope walks too; the observation noise is 0 in half and log-uniform in .1 to 5 of a move's
    deviation in the others (the local level model of Harvey, 1989).
    """
    moves = rng.random((count, length)) < rng.uniform(0.05, 1.0, (count, 1))
    increments = moves * _innovations(rng, count, length)
    increments += 0.05 * rng.standard_normal((count, 1))
    slope = 0.1 * np.cumsum(rng.standard_normal((count, length)), axis=1)
    increments += slope * (rng.random((count, 1)) < 0.25)
    noise = _log_uniform(rng, 0.1, 5.0, (count, 1)) * (rng.random((count, 1)) < 0.5)
    return np.cumsum(increments, axis=1) + noise * rng.standard_normal((count, length))


def _log_uniform(
    rng: np.random.Generator, low: float, high: float, size: int | tuple[int, ...]
) -> Array:
    return np.asarray(np.exp(rng.uniform(np.log(low), np.log(high), size)))


def _innovations(rng: np.random.Generator, count: int, length: int) -> Array:
    """White noise of unit scale: Gaussian in two thirds of the rows, else t with 3 to 10 d.f."""
    noise = rng.standard_normal((count, length))
    freedom = rng.uniform(3.0, 10.0, (count, 1))
    divisor = np.sqrt(rng.chisquare(np.broadcast_to(freedom, noise.shape)) / freedom)
    return np.where(rng.random((count, 1)) < 1 / 3, noise / divisor, noise)


def _ar_coefficients(partial: Array) -> Array:
    """Turn partial autocorrelations ``[n, p]`` into AR coefficients by Durbin and Levinson."""
    coefficients = partial[:, :1]
    for order in range(1, partial.shape[1]):
        last = partial[:, order : order + 1]
        coefficients = np.concatenate([coefficients - last * coefficients[:, ::-1], last], axis=1)
    return coefficients


def _autoregress(shocks: Array, coefficients: Array) -> Array:
    """Run ``x_t = sum_k c_k x_(t-k) + e_t`` over ``[n, length]`` from rest."""
    order = coefficients.shape[1]
    padded = np.zeros((shocks.shape[0], shocks.shape[1] + order))
    reverse = coefficients[:, ::-1]
    for step in range(shocks.shape[1]):
        past = padded[:, step : step + order]  # [n, order], oldest first
        padded[:, step + order] = np.einsum("np,np->n", past, reverse) + shocks[:, step]
    return padded[:, order:]
