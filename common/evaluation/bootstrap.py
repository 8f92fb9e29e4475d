"""Patient-level bootstrap intervals of statistics that are functions of sums over patients.

A replicate draws as many patients as there are, with replacement. Each drawn patient comes with all
windows of all vitals and under all models. Windows of one patient overlap in time and are alike, so
resampling windows would give intervals that are far too narrow. Both models of a comparison see the
same draw, so the difficulty of a patient cancels. Patients of several sites are drawn from one
pool, not site by site. The training of the models is not repeated: an interval shows the variation
over patients, not over seeds.

A metric is a ratio of two sums, so a replicate needs only the sums per patient: its totals are a
row of multinomial counts times those sums. Source: Efron & Tibshirani 1993, An Introduction to the
Bootstrap; the intervals are percentile intervals.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from common.errors import UsageError
from common.evaluation.metrics import Array

DEFAULT_REPLICATES = 1000
CONFIDENCE = 0.95
LEAST_PATIENTS = 10
"""Patients below which there is no interval.

Of two models that do not differ, percentile intervals over 3, 5 and 10 patients exclude zero in
about 29, 18 and 12 of 100 comparisons instead of 5: so few draws do not show the variation.
"""
_COUNTS_AT_ONCE = 2_000_000  # 16 MB a block, for any number of patients


@dataclass(frozen=True)
class Interval:
    """Estimate and its bootstrap interval.

    Attributes:
        estimate: the value on the patients as they are; NaN where it is not defined.
        low: lower end of the 95 % interval; NaN where there are too few patients for one.
        high: upper end.
    """

    estimate: float
    low: float
    high: float

    def to_json(self) -> dict[str, float | None]:
        """Return plain values; None where a value is not defined, since JSON has no NaN."""
        return {name: value if np.isfinite(value) else None for name, value in vars(self).items()}


@dataclass(frozen=True, eq=False)
class Intervals:
    """Intervals of many statistics; three arrays of one shape, see `Interval`."""

    estimate: Array
    low: Array
    high: Array

    def mask_few_patients(self, patients: npt.NDArray[np.integer[Any]]) -> Intervals:
        """Return the intervals with NaN ends where fewer than `LEAST_PATIENTS` contribute.

        Args:
            patients: number of patients in each statistic; broadcasts to the intervals' shape.
        """
        few = patients < LEAST_PATIENTS
        low, high = (np.where(few, np.nan, end) for end in (self.low, self.high))
        return Intervals(self.estimate, low, high)

    def at(self, *index: int) -> Interval:
        """Return the interval of one statistic."""
        return Interval(
            float(self.estimate[index]), float(self.low[index]), float(self.high[index])
        )


def bootstrap_intervals(
    sums: npt.NDArray[np.floating[Any]],
    statistic: Callable[[Array], Array],
    *,
    replicates: int = DEFAULT_REPLICATES,
    seed: int = 0,
) -> Intervals:
    """Return 95 % intervals of statistics of totals over patients.

    Args:
        sums: ``[P, ...]``, each patient's contribution to the totals, for all the models that the
            statistic compares.
        statistic: from totals ``[B, ...]`` to values ``[B, *S]``, row by row; NaN where a value is
            not defined, e.g. because no patient of the replicate has that vital. Such replicates
            are left out of that value's interval.
        replicates: number B of draws of P patients each.
        seed: seed of the draws; the same seed gives the same intervals.

    Returns:
        Intervals of shape S; with fewer than `LEAST_PATIENTS` patients their ends are NaN.

    Raises:
        UsageError: fewer than one replicate.
    """
    estimate = statistic(sums.sum(axis=0, dtype=np.float64)[None])[0]
    if len(sums) < LEAST_PATIENTS and replicates > 0:
        # Of a cohort's hospitals most are this small; drawing would take longer than forecasting.
        return Intervals(estimate, *np.full((2, *estimate.shape), np.nan))
    samples = statistic(resampled_sums(sums, replicates=replicates, seed=seed))
    intervals = percentile_intervals(estimate, samples)
    return intervals.mask_few_patients(np.full(estimate.shape, len(sums)))


def resampled_sums(
    sums: npt.NDArray[np.floating[Any]], *, replicates: int = DEFAULT_REPLICATES, seed: int = 0
) -> Array:
    """Draw patients with replacement and add up their contributions.

    Args:
        sums: ``[P, ...]``, each patient's contribution.
        replicates: number B of draws of P patients each.
        seed: seed of the draws.

    Returns:
        ``[B, ...]``, the totals of each replicate.

    Raises:
        UsageError: fewer than one replicate.
    """
    if replicates < 1:
        raise UsageError(f"bootstrap replicates must be at least 1, got {replicates}")
    patients = len(sums)
    totals = np.zeros((replicates, *sums.shape[1:]))
    if patients == 0:
        return totals
    generator = np.random.default_rng(seed)
    chances = np.full(patients, 1.0 / patients)
    flat = sums.reshape(patients, -1).astype(np.float64)
    block = max(1, _COUNTS_AT_ONCE // patients)
    for start in range(0, replicates, block):
        size = min(block, replicates - start)
        counts = generator.multinomial(patients, chances, size=size)  # [size, P]
        drawn = counts.astype(np.float64) @ flat
        totals[start : start + size] = drawn.reshape(size, *sums.shape[1:])
    return totals


def percentile_intervals(estimate: Array, samples: Array) -> Intervals:
    """Return 95 % percentile intervals of statistics.

    Args:
        estimate: ``[*S]``, the values on the patients as they are.
        samples: ``[B, *S]``, the values of the replicates; NaN ones are left out.

    Returns:
        Intervals of shape S; NaN ends where the estimate or all replicates are undefined.
    """
    ends = np.full((2, *estimate.shape), np.nan)
    tails = [(1.0 - CONFIDENCE) / 2.0, (1.0 + CONFIDENCE) / 2.0]
    for index in np.argwhere(np.isfinite(estimate)):
        values = samples[(slice(None), *index)]
        defined = values[np.isfinite(values)]
        if len(defined):
            ends[(slice(None), *index)] = np.quantile(defined, tails)
    return Intervals(estimate, ends[0], ends[1])
