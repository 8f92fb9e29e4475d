"""Generic measurement effects on synthetic series: noise, rounding, bounds, missing values.

Each effect is drawn for every row of a batch, so that a series used twice differs. Rates and
strengths are round numbers, not estimates from any record.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Corruption:
    """Share of series with each effect.

    Attributes:
        flip: sign reversed.
        skew: transformed by an exponential, so that one tail is longer.
        noise: with white noise.
        bounds: clipped at an upper bound, a lower bound or both.
        rounding: rounded to a coarse grid.
        shift: shifted and rescaled from mean 0 and deviation 1.
        missing: with missing values, in one of three patterns.
        late_start: starting after the first step of the context.
    """

    flip: float = 0.5
    skew: float = 0.2
    noise: float = 0.3
    bounds: float = 0.15
    rounding: float = 0.3
    shift: float = 0.5
    missing: float = 0.4
    late_start: float = 0.2

    def measure(self, rng: np.random.Generator, series: Array) -> Array:
        """Apply every effect but missing values to standardised series ``[batch, length]``."""

        def touched(share: float) -> npt.NDArray[np.bool_]:
            return rng.random((len(series), 1)) < share

        series = np.where(touched(self.flip), -series, series)
        series = np.where(touched(self.skew), _skewed(rng, series), series)
        series = np.where(touched(self.noise), _noisy(rng, series), series)
        series = np.where(touched(self.bounds), _bounded(rng, series), series)
        series = np.where(touched(self.rounding), _rounded(rng, series), series)
        return np.where(touched(self.shift), _shifted(rng, series), series)

    def lose(self, rng: np.random.Generator, series: Array, context: int) -> Array:
        """Set values to NaN: in the whole window, and before a late start of the context.

        Args:
            rng: source of all randomness.
            series: windows ``[batch, context + horizon]``.
            context: steps of the context.

        Returns:
            ``[batch, context + horizon]``; a row that would keep fewer than four values of its
            context, or none of its target, is left unchanged.
        """
        count, length = series.shape
        pattern = rng.integers(0, 3, (count, 1))
        lost = np.where(pattern == 0, _random_gaps(rng, count, length), False)
        lost = np.where(pattern == 1, _blocks(rng, count, length), lost)
        lost = np.where(pattern == 2, _all_but_regular(rng, count, length), lost)
        lost &= rng.random((count, 1)) < self.missing
        start = rng.integers(1, max(2, context - 8), (count, 1))
        late = rng.random((count, 1)) < self.late_start
        lost |= late & (np.arange(length) < start)
        seen = ~lost
        enough = (seen[:, :context].sum(axis=1) >= 4) & (seen[:, context:].sum(axis=1) >= 1)
        return np.where(lost & enough[:, None], np.nan, series)


def _skewed(rng: np.random.Generator, series: Array) -> Array:
    strength = rng.uniform(0.1, 0.8, (len(series), 1))
    return np.asarray(np.expm1(strength * np.clip(series, -6.0, 6.0)) / strength)


def _noisy(rng: np.random.Generator, series: Array) -> Array:
    level = np.exp(rng.uniform(np.log(0.03), np.log(1.0), (len(series), 1)))
    return np.asarray(series + level * rng.standard_normal(series.shape))


def _bounded(rng: np.random.Generator, series: Array) -> Array:
    kind = rng.integers(0, 3, (len(series), 1))  # floor, ceiling, both
    cut = rng.uniform(0.3, 2.0, (2, len(series), 1))
    low = np.where(kind != 1, -cut[0], -np.inf)
    high = np.where(kind != 0, cut[1], np.inf)
    return np.clip(series, low, high)


def _rounded(rng: np.random.Generator, series: Array) -> Array:
    grid = np.exp(rng.uniform(np.log(0.05), np.log(1.0), (len(series), 1)))
    return np.asarray(np.rint(series / grid) * grid)


def _shifted(rng: np.random.Generator, series: Array) -> Array:
    scale = np.exp(rng.uniform(np.log(0.1), np.log(10.0), (len(series), 1)))
    return np.asarray(scale * (series + 5.0 * rng.standard_normal((len(series), 1))))


def _random_gaps(rng: np.random.Generator, count: int, length: int) -> npt.NDArray[np.bool_]:
    return np.asarray(rng.random((count, length)) < rng.uniform(0.02, 0.8, (count, 1)))


def _blocks(rng: np.random.Generator, count: int, length: int) -> npt.NDArray[np.bool_]:
    start = rng.uniform(0.0, length, (count, 1))
    size = rng.uniform(0.02, 0.5, (count, 1)) * length
    step = np.arange(length)
    return np.asarray((step >= start) & (step < start + size))


def _all_but_regular(rng: np.random.Generator, count: int, length: int) -> npt.NDArray[np.bool_]:
    every = rng.integers(2, 9, (count, 1))
    return np.asarray((np.arange(length) + rng.integers(0, 9, (count, 1))) % every != 0)
