"""Bounds of forecasts: the valid range of each vital sign.

A model knows no range and may forecast an oxygen saturation of 100.7 %. Every forecast that is
given to a person passes `bound_forecast`: the table of `common.forecasting.patient_forecaster`,
the figures of single patients, and the examples of the report. Scores are those of the unbounded
quantiles, so that results stay comparable across releases. Bounding makes no loss worse: all
measured values lie in the range, so moving a quantile to the nearest end of the range brings it
nearer to each of them (pinball loss, absolute and squared error) and past none (the share of values
at or below a quantile). The coverage of a range changes in one case: if all of the range was above
the highest valid value and exactly that was measured, as an SpO2 of 100 %, the range then holds it.
"""

from __future__ import annotations

import numpy as np

from common.data.vitals import VITALS
from common.data.windows import FloatArray, IntArray

_LOW = np.array([vital.low for vital in VITALS], np.float32)
_HIGH = np.array([vital.high for vital in VITALS], np.float32)


def bound_forecast(forecast: FloatArray, vital: IntArray) -> FloatArray:
    """Return forecasts with every value moved into the valid range of its vital.

    Args:
        forecast: ``[N, ...]`` in the vital's unit: points, quantiles or samples; NaN stays NaN.
        vital: ``[N]``, index into `common.data.vitals.VITALS`.

    Returns:
        A new array of the same shape, from `Vital.low` to `Vital.high`. Quantiles that rise along
        an axis still do.
    """
    ends = (len(vital), *(1,) * (forecast.ndim - 1))
    low, high = _LOW[vital].reshape(ends), _HIGH[vital].reshape(ends)
    bounded: FloatArray = np.clip(forecast, low, high)
    return bounded
