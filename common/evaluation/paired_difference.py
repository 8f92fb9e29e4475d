"""Differences between two models on the same windows, with intervals over patients.

Vitals have different units, so there are two differences. The absolute difference a - b is in the
metric's unit, per vital. The relative difference a / b - 1 has no unit and can be averaged over
vitals: the headline "MAE 3 % lower" is the unweighted mean of the vitals' relative differences.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from common.data.vitals import VITAL_NAMES
from common.errors import UsageError
from common.evaluation.bootstrap import DEFAULT_REPLICATES, Interval, Intervals, bootstrap_intervals
from common.evaluation.evaluate import Evaluation, mean_over_vitals, metric_values
from common.evaluation.metrics import METRICS, Array, computed_column


@dataclass(frozen=True)
class Difference:
    """Difference between model a and model b in one metric.

    Attributes:
        absolute: a - b in the unit of the metric; None in the mean over vitals if the vitals'
            units differ.
        relative: a / b - 1; undefined if b is 0.
    """

    absolute: Interval | None
    relative: Interval

    def to_json(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "absolute": self.absolute.to_json() if self.absolute else None,
            "relative": self.relative.to_json(),
        }


@dataclass(frozen=True)
class Comparison:
    """Differences between model a and model b, with patient-level 95 % intervals.

    Attributes:
        vitals: per vital that has windows, per metric.
        mean: per metric, the unweighted mean over those vitals; a replicate without patients with
            a vital uses the mean of the others.
        patients: number of resampled patients.
    """

    vitals: dict[str, dict[str, Difference]]
    mean: dict[str, Difference]
    patients: int

    def to_json(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "patients": self.patients,
            "vitals": {vital: _to_json(row) for vital, row in self.vitals.items()},
            "mean": _to_json(self.mean),
        }


def compare(
    a: Evaluation,
    b: Evaluation,
    *,
    metrics: Sequence[str] | None = None,
    replicates: int = DEFAULT_REPLICATES,
    seed: int = 0,
) -> Comparison:
    """Compare two models; a negative difference means that a is lower, for errors better.

    Args:
        a: the model to assess, e.g. the global adapter.
        b: the reference, e.g. the frozen backbone; evaluated on the same windows.
        metrics: names of metrics that both have; None = all of them.
        replicates: bootstrap draws of the patients that have windows.
        seed: seed of the draws.

    Returns:
        The differences. An interval is NaN if fewer than `LEAST_PATIENTS` patients have the vital.

    Raises:
        UsageError: the windows differ, or a metric is missing in one of them.
    """
    _check_same_windows(a, b)
    shared = tuple(name for name in a.metrics if name in b.metrics)
    names = shared if metrics is None else tuple(metrics)
    for name in names:
        computed_column(name, shared)
    present = a.windows.any(axis=1)
    sums = np.stack([_totals(model, names)[present] for model in (a, b)], axis=1)
    # Denominators do not depend on the forecast: if they differ, the targets do.
    if not np.allclose(sums[:, 0, 1], sums[:, 1, 1], rtol=1e-9, atol=0.0):
        raise _other_windows(a, b)

    def statistic(totals: Array) -> Array:  # [B, model, 2, V, M] -> [B, 2, V + 1, M]
        values = metric_values(names, totals[:, :, 0], totals[:, :, 1])  # [B, model, V, M]
        differences = np.stack([values[:, 0] - values[:, 1], _relative(values)], axis=1)
        return np.concatenate([differences, mean_over_vitals(differences)[:, :, None]], axis=2)

    intervals = bootstrap_intervals(sums, statistic, replicates=replicates, seed=seed)
    return _assemble(intervals, names, np.count_nonzero(a.windows, axis=0), len(sums))


def _assemble(
    intervals: Intervals, names: tuple[str, ...], patients: npt.NDArray[np.intp], resampled: int
) -> Comparison:
    """Name the intervals [absolute and relative, V + mean, M]; `patients` is [V]."""
    intervals = intervals.mask_few_patients(np.append(patients, resampled)[:, None])
    vitals = {
        vital: {
            name: Difference(intervals.at(0, row, column), intervals.at(1, row, column))
            for column, name in enumerate(names)
        }
        for row, vital in enumerate(VITAL_NAMES)
        if patients[row]
    }
    mean = {
        name: Difference(
            None if METRICS[name].has_dimension else intervals.at(0, -1, column),
            intervals.at(1, -1, column),
        )
        for column, name in enumerate(names)
    }
    return Comparison(vitals, mean, resampled)


def _relative(values: Array) -> Array:
    """Return a / b - 1 from values [B, model, V, M]; NaN where b is 0 or undefined."""
    ours, reference = values[:, 0], values[:, 1]
    blank = np.full(ours.shape, np.nan)
    return np.asarray(np.divide(ours, reference, out=blank, where=reference > 0) - 1.0)


def _totals(model: Evaluation, names: tuple[str, ...]) -> Array:
    """Return numerators and denominators of some metrics, [P, 2, V, M]."""
    columns = [model.metrics.index(name) for name in names]
    return np.stack([model.numerator[..., columns], model.denominator[..., columns]], axis=1)


def _check_same_windows(a: Evaluation, b: Evaluation) -> None:
    if (
        a.patient_ids != b.patient_ids
        or not np.array_equal(a.windows, b.windows)
        or not np.array_equal(a.observed, b.observed)
    ):
        raise _other_windows(a, b)


def _other_windows(a: Evaluation, b: Evaluation) -> UsageError:
    counts = " and ".join(
        f"{model.windows.sum()} windows with {model.observed.sum()} observed target steps"
        for model in (a, b)
    )
    return UsageError(
        f"only evaluations of the same windows can be compared, got {counts}, which differ; "
        "evaluate both models on one set of windows"
    )


def _to_json(row: dict[str, Difference]) -> dict[str, Any]:
    return {name: difference.to_json() for name, difference in row.items()}
