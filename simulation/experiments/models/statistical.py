"""Forecasts without a trained network: last value, weighted mean, AR and ETS.

Last value and weighted mean take the spread of their forecasts from the site's own training
patients. AR and ETS (statsforecast) are fitted to each window's context alone, and their spread is
that of their own Gaussian errors. They cannot handle gaps: missing values are filled by a straight
line between their neighbours, and steps before the first observed one are cut off.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from common.data.vitals import VITALS
from common.data.windows import FloatArray, IntArray
from common.errors import UsageError
from common.evaluation.baselines import Baseline, ExponentiallyWeightedMean, LastValue
from common.evaluation.evaluate import LEVELS
from simulation.experiments.cell_cache import Cell, CellResult, SetStatus
from simulation.experiments.models.scoring import cohort_windows, score_sites

_MEDIAN = LEVELS.index(0.5)
_BANDS = tuple(round(100 * (1 - 2 * level)) for level in LEVELS[:_MEDIAN])
"""Central intervals in per cent whose ends are the quantile levels: 80, 60, 40, 20."""


def last_value(cell: Cell, _run: Path, _set_status: SetStatus) -> CellResult:
    """Score the last observed value."""
    return _score_baseline(cell, LastValue())


def exponential_mean(cell: Cell, _run: Path, _set_status: SetStatus) -> CellResult:
    """Score the exponentially weighted mean."""
    return _score_baseline(cell, ExponentiallyWeightedMean())


def _score_baseline(cell: Cell, baseline: Baseline) -> CellResult:
    sites = cohort_windows(cell.config)
    return CellResult(score_sites(sites, lambda _, site: baseline.fit(site.train)))


def autoregressive(cell: Cell, _run: Path, set_status: SetStatus) -> CellResult:
    """Score an autoregression of order 1 with a mean."""
    return _score_statistical(cell, "ar", set_status)


def exponential_smoothing(cell: Cell, _run: Path, set_status: SetStatus) -> CellResult:
    """Score exponential smoothing without season, its kind chosen by AICc."""
    return _score_statistical(cell, "ets", set_status)


def _score_statistical(cell: Cell, name: str, set_status: SetStatus) -> CellResult:
    forecaster = statistical_forecaster(name)
    set_status("one fit a window")
    scores = score_sites(cohort_windows(cell.config), lambda _name, _site: forecaster)
    return CellResult(scores, {"fits_failed": len(forecaster.failures)})


def statistical_forecaster(name: str) -> StatisticalForecaster:
    """Return the forecaster ``ar`` or ``ets``.

    Raises:
        UsageError: statsforecast is not installed.
    """
    if find_spec("statsforecast") is None:
        raise UsageError(
            'AR and ETS need the package statsforecast; pip install "fedvitals[experiments]", or '
            "leave them out with --without"
        )
    from statsforecast import models

    if name == "ar":
        return StatisticalForecaster(lambda: models.ARIMA(order=(1, 0, 0)), [])
    return StatisticalForecaster(lambda: models.AutoETS(season_length=1), [])


@dataclass(frozen=True)
class StatisticalForecaster:
    """Forecaster that fits a model to each window.

    A failed fit becomes the last value without spread and is counted in `failures`.
    """

    make: Callable[[], Any]
    failures: list[int]

    def forecast(self, context: FloatArray, vital: IntArray, horizon_steps: int) -> FloatArray:
        """Forecast windows [N, C] as quantiles [N, H, Q]; see `evaluate.Forecaster`."""
        return np.stack(
            [
                self._window(row, VITALS[index].scale_floor, horizon_steps)
                for row, index in zip(context, vital, strict=True)
            ]
        )

    def _window(self, context: FloatArray, floor: float, horizon_steps: int) -> FloatArray:
        series = from_first_observed(context)
        if np.ptp(series) < 1e-3 * floor:  # a constant has no error to estimate a spread from
            return np.full((horizon_steps, len(LEVELS)), series[-1], np.float32)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                found = self.make().forecast(y=series.astype(float), h=horizon_steps, level=_BANDS)
            quantiles = np.stack([found["mean"]] * len(LEVELS), axis=1)
            for place, band in enumerate(_BANDS):
                quantiles[:, place] = found[f"lo-{band}"]
                quantiles[:, -1 - place] = found[f"hi-{band}"]
        except Exception:  # a numerical fit can raise anything
            quantiles = np.full((horizon_steps, len(LEVELS)), np.nan)
        if not np.isfinite(quantiles).all():
            self.failures.append(1)
            quantiles = np.full((horizon_steps, len(LEVELS)), float(series[-1]))
        return np.sort(quantiles, axis=1).astype(np.float32)


def from_first_observed(context: FloatArray) -> FloatArray:
    """Return a context [C] without gaps, from its first observed value on."""
    return without_gaps(context)[np.flatnonzero(~np.isnan(context))[0] :]


def without_gaps(context: FloatArray) -> FloatArray:
    """Return a context [C] with gaps filled by straight lines.

    Steps before the first and after the last observed value take that value; one must exist.
    """
    observed = np.flatnonzero(~np.isnan(context))
    steps = np.arange(len(context))
    return np.interp(steps, observed, context[observed]).astype(np.float32)
