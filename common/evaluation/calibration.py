"""Calibration of a model's quantiles, with intervals over patients.

A forecast is calibrated if, for every level a, the share of measurements at or below the quantile
of level a is a. `Evaluation` counts the measurements batch by batch; this module turns the counts
into shares. All levels of a model use the same bootstrap replicates.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from common.data.vitals import VITAL_NAMES
from common.errors import UsageError
from common.evaluation.bootstrap import DEFAULT_REPLICATES, Interval, Intervals, bootstrap_intervals
from common.evaluation.evaluate import LEVELS, Evaluation, mean_over_vitals
from common.evaluation.metrics import Array, computed_column


@dataclass(frozen=True)
class Reliability:
    """Reliability curve: one curve of a calibration plot.

    Attributes:
        below: for each of `LEVELS`, the share of measurements at or below its quantile.
        inside_80: the share inside the central 80 % band, both ends included.
    """

    below: tuple[Interval, ...]
    inside_80: Interval

    def to_json(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "below": [interval.to_json() for interval in self.below],
            "inside_80": self.inside_80.to_json(),
        }


@dataclass(frozen=True)
class Calibration:
    """Calibration of a model, with patient-level 95 % intervals.

    Attributes:
        vitals: the curve of each vital that has windows.
        mean: the unweighted mean over those vitals; a replicate without patients with a vital
            uses the mean of the others.
    """

    vitals: dict[str, Reliability]
    mean: Reliability

    def to_json(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "levels": list(LEVELS),
            "vitals": {vital: curve.to_json() for vital, curve in self.vitals.items()},
            "mean": self.mean.to_json(),
        }


def calibrate(
    evaluation: Evaluation, *, replicates: int = DEFAULT_REPLICATES, seed: int = 0
) -> Calibration:
    """Compare a model's quantiles with the measurements.

    Args:
        evaluation: an evaluation with counts per level and the metric ``coverage_80``.
        replicates: bootstrap draws of the patients that have windows.
        seed: seed of the draws.

    Returns:
        The calibration. An interval is NaN if fewer than `LEAST_PATIENTS` patients have the vital.

    Raises:
        UsageError: the evaluation has no counts per level, or no coverage.
    """
    if evaluation.below is None:
        raise UsageError("the evaluation has no counts per quantile level; evaluate again")
    column = computed_column("coverage_80", evaluation.metrics)
    inside = evaluation.numerator[..., column]
    # [P, V, Q + 2]: steps at or below each level, inside the band, and observed
    counts = np.concatenate(
        [evaluation.below, inside[..., None], evaluation.observed[..., None]], axis=2
    )
    sums = counts[evaluation.windows.any(axis=1)]

    def statistic(totals: Array) -> Array:  # [B, V, Q + 2] -> [B, V + 1, Q + 1]
        steps = totals[..., -1:]
        blank = np.full((*totals.shape[:-1], len(LEVELS) + 1), np.nan)
        shares: Array = np.divide(totals[..., :-1], steps, out=blank, where=steps > 0)
        return np.concatenate([shares, mean_over_vitals(shares)[:, None]], axis=1)

    patients = np.count_nonzero(evaluation.observed, axis=0)
    intervals = bootstrap_intervals(sums, statistic, replicates=replicates, seed=seed)
    intervals = intervals.mask_few_patients(np.append(patients, len(sums))[:, None])
    rows = [_reliability(intervals, row) for row in range(len(VITAL_NAMES) + 1)]
    vitals = {vital: rows[row] for row, vital in enumerate(VITAL_NAMES) if patients[row]}
    return Calibration(vitals, rows[-1])


def _reliability(intervals: Intervals, row: int) -> Reliability:
    below = tuple(intervals.at(row, level) for level in range(len(LEVELS)))
    return Reliability(below, intervals.at(row, len(LEVELS)))
