"""AR and ETS, fitted to each window's context alone, through statsforecast.

Classical models know no gaps: values that were not measured are filled by a straight line between
their neighbours, and what stands before the first or after the last observed one is cut off or
repeated. Both are given no other patient, neither to train nor for their spread, which is that of
their own Gaussian errors.

Series without gaps, for models that know none.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from common.data.site_table import VITALS
from common.data.windows import FloatArray, IntArray
from common.errors import UsageError
from common.evaluation.evaluate import LEVELS
from simulation.experiments.cell_cache import Cell, Outcome
from simulation.experiments.models.scoring import cohort_windows, score


def without_gaps(context: FloatArray) -> FloatArray:
    """Return a context [C] with straight lines where nothing was measured.

    Before the first and after the last observed value, which has to exist, stands that value.
    """
    observed = np.flatnonzero(~np.isnan(context))
    steps = np.arange(len(context))
    return np.interp(steps, observed, context[observed]).astype(np.float32)


def from_first_observed(context: FloatArray) -> FloatArray:
    """Return the same from the first observed value on."""
    return without_gaps(context)[np.flatnonzero(~np.isnan(context))[0] :]


_MEDIAN = LEVELS.index(0.5)
_BANDS = tuple(round(100 * (1 - 2 * level)) for level in LEVELS[:_MEDIAN])
"""Central intervals in per cent whose ends are the quantile levels: 80, 60, 40, 20."""


def autoregressive(cell: Cell, _run: Path, say: Callable[[str], None]) -> Outcome:
    """Score an autoregression of order 1 with a mean."""
    return _fitted(cell, "ar", say)


def exponential_smoothing(cell: Cell, _run: Path, say: Callable[[str], None]) -> Outcome:
    """Score exponential smoothing whose kind is chosen by AICc, without season."""
    return _fitted(cell, "ets", say)


def statistical_forecaster(name: str) -> StatisticalForecaster:
    """Return the forecaster ``ar`` or ``ets``.

    Raises:
        UsageError: where statsforecast is not installed.
    """
    models = _library()
    if name == "ar":
        return StatisticalForecaster(lambda: models.ARIMA(order=(1, 0, 0)), [])
    return StatisticalForecaster(lambda: models.AutoETS(season_length=1), [])


@dataclass(frozen=True)
class StatisticalForecaster:
    """One fit a window; a fit that fails is the last value with no spread, and is counted."""

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
                told = self.make().forecast(y=series.astype(float), h=horizon_steps, level=_BANDS)
            quantiles = np.stack([told["mean"]] * len(LEVELS), axis=1)
            for place, band in enumerate(_BANDS):
                quantiles[:, place] = told[f"lo-{band}"]
                quantiles[:, -1 - place] = told[f"hi-{band}"]
        except Exception:  # whatever a numerical fit can raise
            quantiles = np.full((horizon_steps, len(LEVELS)), np.nan)
        if not np.isfinite(quantiles).all():
            self.failures.append(1)
            quantiles = np.full((horizon_steps, len(LEVELS)), float(series[-1]))
        return np.sort(quantiles, axis=1).astype(np.float32)


def _fitted(cell: Cell, name: str, say: Callable[[str], None]) -> Outcome:
    forecaster = statistical_forecaster(name)
    say("one fit a window")
    scores = score(cohort_windows(cell.config), lambda _name, _site: forecaster)
    return Outcome(scores, {"fits_failed": len(forecaster.failures)})


def _library() -> Any:
    if find_spec("statsforecast") is None:
        raise UsageError(
            'AR and ETS need the package statsforecast; pip install "fedvitals[experiments]", or '
            "leave them out with --without"
        )
    from statsforecast import models

    return models
