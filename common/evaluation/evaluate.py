"""Evaluation of a forecaster on a set of windows, with totals per patient and vital.

A site's validation, the release and the baselines all use `evaluate`. An `Evaluation` keeps sums
per patient and vital but no forecast. It is therefore small for any number of windows, evaluations
of several sites can be pooled, and the patient-level bootstrap needs nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from common.data.vitals import VITAL_NAMES, VITALS
from common.data.windows import FloatArray, IntArray, Windows
from common.errors import ForecastError, UsageError
from common.evaluation.metrics import (
    METRICS,
    Array,
    computed_column,
    steps_at_or_below,
    window_totals,
)
from common.names import check_name

LEVELS: tuple[float, ...] = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
"""Quantile levels of every forecast."""

DEFAULT_METRICS: tuple[str, ...] = tuple(name for name in METRICS if name != "dtw")
"""All metrics except DTW, which takes longer than the others together."""

_SCALE_FLOORS = np.array([vital.scale_floor for vital in VITALS])
_MAPE_FLOORS = np.array([vital.mape_floor for vital in VITALS])


class Forecaster(Protocol):
    """Probabilistic forecaster: a backbone with or without an adapter, or a baseline."""

    def forecast(self, context: FloatArray, vital: IntArray, horizon_steps: int) -> FloatArray:
        """Forecast a batch of windows.

        Args:
            context: ``[N, C]`` in the vital's unit, NaN = not measured.
            vital: ``[N]``, index into `common.data.vitals.VITALS`.
            horizon_steps: H, the number of steps to forecast.

        Returns:
            Quantiles ``[N, H, Q]`` at `LEVELS`, in the vital's unit, finite, rising along Q.
        """
        ...


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Metric totals of P patients, V vitals (`VITALS`, in their order) and M metrics.

    Attributes:
        patient_ids: the P patients.
        metrics: the M names.
        numerator: ``[P, V, M]``, summed over windows; see `common.evaluation.metrics`.
        denominator: ``[P, V, M]``.
        windows: ``[P, V]``, number of windows.
        observed: ``[P, V]``, number of observed target steps.
        below: ``[P, V, Q]``, number of those at or below the forecast quantile of each of
            `LEVELS`; None if they were not counted.
    """

    patient_ids: tuple[str, ...]
    metrics: tuple[str, ...]
    numerator: Array
    denominator: Array
    windows: IntArray
    observed: IntArray
    below: IntArray | None = None

    def metric(self, name: str, vital: str | None = None) -> float:
        """Return one metric.

        Args:
            name: one of `metrics`.
            vital: name of the vital; None gives the unweighted mean over the vitals that have
                windows. For MAE, MSE, RMSE and DTW that mean adds different units, so it serves
                only to rank models on the same windows.

        Returns:
            The value; NaN if there is no window.

        Raises:
            UsageError: an unknown vital, or a metric that was not computed.
        """
        values = self._values()[:, computed_column(name, self.metrics)]
        if vital is None:
            return float(mean_over_vitals(values[:, None])[0])
        return float(values[VITAL_NAMES.index(check_name("vital", vital, VITAL_NAMES))])

    def table(self) -> dict[str, Any]:
        """Return counts and metrics as plain values for JSON; None where a value is undefined.

        Returns:
            ``{"vitals": {vital: row}, "mean": row}`` with the vitals that have windows. A row has
            the counts `windows`, `patients` and `observed` (target steps) and every metric; in
            ``mean`` the counts are totals and the metrics are those of `metric` without a vital.
        """
        values = self._values()
        per_vital = {
            name: self._row(values[index], self.windows[:, index], self.observed[:, index])
            for index, name in enumerate(VITAL_NAMES)
            if self.windows[:, index].any()
        }
        mean = self._row(
            mean_over_vitals(values), self.windows.sum(axis=1), self.observed.sum(axis=1)
        )
        return {"vitals": per_vital, "mean": mean}

    def _values(self) -> Array:
        return metric_values(self.metrics, self.numerator.sum(axis=0), self.denominator.sum(axis=0))

    def _row(self, values: Array, windows: IntArray, observed: IntArray) -> dict[str, Any]:
        scores = zip(self.metrics, values.tolist(), strict=True)
        return {
            "windows": int(windows.sum()),
            "patients": int(np.count_nonzero(windows)),
            "observed": int(observed.sum()),
            **{name: value if np.isfinite(value) else None for name, value in scores},
        }


def evaluate(
    windows: Windows,
    forecaster: Forecaster,
    *,
    batch_size: int = 512,
    metrics: Sequence[str] = DEFAULT_METRICS,
) -> Evaluation:
    """Forecast all windows in batches and score them.

    Args:
        windows: the windows to forecast; N = 0 gives an evaluation without values.
        forecaster: the model or baseline.
        batch_size: windows per call of the forecaster; the result does not depend on it.
        metrics: names of `common.evaluation.metrics.METRICS`.

    Returns:
        The totals per patient and vital.

    Raises:
        UsageError: an unknown metric or a batch size below 1.
        ForecastError: a forecast is not finite, its quantiles cross, or its shape is wrong.
    """
    if batch_size < 1:
        raise UsageError(f"batch_size must be at least 1, got {batch_size}")
    for name in metrics:
        check_name("metric", name, METRICS)
    cells = (len(windows.patient_ids), len(VITALS))
    result = Evaluation(
        patient_ids=windows.patient_ids,
        metrics=tuple(metrics),
        numerator=np.zeros((*cells, len(metrics))),
        denominator=np.zeros((*cells, len(metrics))),
        windows=np.zeros(cells, np.int64),
        observed=np.zeros(cells, np.int64),
        below=np.zeros((*cells, len(LEVELS)), np.int64),
    )
    for start in range(0, len(windows), batch_size):
        _score(windows.take(slice(start, start + batch_size)), forecaster, result)
    return result


def _score(batch: Windows, forecaster: Forecaster, result: Evaluation) -> None:
    """Forecast one batch and add its totals to `result`."""
    horizon = batch.target.shape[1]
    quantiles = forecaster.forecast(batch.context, batch.vital, horizon)
    _check_forecast(quantiles, batch, forecaster)
    totals = window_totals(
        batch.target,
        quantiles,
        LEVELS,
        batch.context,
        _SCALE_FLOORS[batch.vital],
        result.metrics,
        _MAPE_FLOORS[batch.vital],
    )
    cell = (batch.patient, batch.vital)
    np.add.at(result.numerator, cell, totals.numerator)
    np.add.at(result.denominator, cell, totals.denominator)
    np.add.at(result.windows, cell, 1)
    np.add.at(result.observed, cell, (~np.isnan(batch.target)).sum(axis=1))
    if result.below is not None:
        np.add.at(result.below, cell, steps_at_or_below(batch.target, quantiles))


def _check_forecast(quantiles: FloatArray, batch: Windows, forecaster: Forecaster) -> None:
    model = type(forecaster).__name__
    expected = (*batch.target.shape, len(LEVELS))
    if quantiles.shape != expected:
        raise ForecastError(
            f"{model} returned forecasts of shape {quantiles.shape}, expected {expected}: windows, "
            "horizon steps, quantile levels"
        )
    finite = np.isfinite(quantiles).all(axis=(1, 2))
    if not finite.all():
        vital = VITAL_NAMES[batch.vital[np.argmin(finite)]]
        raise ForecastError(
            f"{model} returned NaN or infinity for {np.count_nonzero(~finite)} of {len(batch)} "
            f"windows of a batch, first for {vital}; its weights or its adapter are damaged, or "
            "training diverged: lower the learning rate or use an earlier round"
        )
    if (np.diff(quantiles, axis=2) < 0).any():
        raise ForecastError(f"{model} returned quantiles that cross; sort them along the last axis")


def below_mape_floor(windows: Windows) -> IntArray:
    """Count the observed target steps below `Vital.mape_floor`, by vital, ``[V]``."""
    below = (windows.target < _MAPE_FLOORS[windows.vital][:, None]).sum(axis=1)
    return np.bincount(windows.vital, weights=below, minlength=len(VITALS)).astype(np.int64)


def pool_evaluations(sites: Mapping[str, Evaluation]) -> Evaluation:
    """Pool the evaluations of several sites, with the same weight for every window.

    Args:
        sites: each site's evaluation by its name, all with the same metrics.

    Returns:
        One evaluation; patients are named ``site/patient``.

    Raises:
        UsageError: no site is given, or the metrics of the sites differ.
    """
    parts = list(sites.values())
    if len({part.metrics for part in parts}) != 1:
        given = "; ".join(f"{site}: {', '.join(part.metrics)}" for site, part in sites.items())
        raise UsageError(
            f"only evaluations of the same metrics can be pooled, got {given or 'no site'}"
        )
    return Evaluation(
        patient_ids=tuple(
            f"{site}/{id_}" for site, part in sites.items() for id_ in part.patient_ids
        ),
        metrics=parts[0].metrics,
        numerator=np.concatenate([part.numerator for part in parts]),
        denominator=np.concatenate([part.denominator for part in parts]),
        windows=np.concatenate([part.windows for part in parts]),
        observed=np.concatenate([part.observed for part in parts]),
        below=_pooled_below(parts),
    )


def _pooled_below(parts: Sequence[Evaluation]) -> IntArray | None:
    """Return the pooled counts per level; None if a site has none."""
    kept = [part.below for part in parts if part.below is not None]
    return np.concatenate(kept) if len(kept) == len(parts) else None


def metric_values(metrics: Sequence[str], numerator: Array, denominator: Array) -> Array:
    """Compute metrics from their totals.

    Args:
        metrics: the M names.
        numerator: ``[..., M]``.
        denominator: ``[..., M]``.

    Returns:
        ``[..., M]``, NaN where a denominator is 0.
    """
    values = [
        METRICS[name].value(numerator[..., column], denominator[..., column])
        for column, name in enumerate(metrics)
    ]
    return np.stack(values, axis=-1) if values else np.empty(numerator.shape)


def mean_over_vitals(values: Array) -> Array:
    """Return the unweighted mean over the vitals with a defined value.

    Args:
        values: ``[..., V, M]``, NaN where a vital has no value.

    Returns:
        ``[..., M]``, NaN where no vital has a value.
    """
    defined = ~np.isnan(values)
    count = defined.sum(axis=-2)
    total = np.where(defined, values, 0.0).sum(axis=-2)
    mean: Array = np.full(total.shape, np.nan)
    np.divide(total, count, out=mean, where=count > 0)
    return mean
