"""Baseline forecasts without a model: last value and exponentially weighted mean.

Both repeat one number over the whole horizon. A fitted baseline adds the quantiles of its own
errors on training windows, per vital and step ahead, so that WQL and coverage compare it fairly
with a probabilistic model. Without a fit all quantiles are that number.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from common.data.vitals import VITALS
from common.data.windows import FloatArray, IntArray, Windows
from common.errors import UsageError
from common.evaluation.evaluate import LEVELS
from common.evaluation.metrics import Array

_MEDIAN = LEVELS.index(0.5)


@dataclass(frozen=True, eq=False)
class Baseline(ABC):
    """Point forecast repeated over the horizon, with quantiles of its own past errors.

    Attributes:
        error_quantiles: ``[V, H, Q]`` in the vitals' units, from `fit`; None = not fitted.
    """

    error_quantiles: Array | None = None

    name: ClassVar[str]
    label: ClassVar[str]

    @abstractmethod
    def point(self, context: npt.NDArray[np.floating[Any]]) -> Array:
        """Return the point forecast.

        Args:
            context: ``[N, C]``, NaN = not measured.

        Returns:
            ``[N]`` in the unit of the context; NaN if a context has no observed value.
        """

    def fit(self, train: Windows) -> Self:
        """Return this baseline with the quantiles of its errors on training windows.

        The median of the forecast remains the point itself, even if the errors are skewed:
        quantiles below .5 are at or below it, those above .5 at or above. A step without observed
        targets of a vital uses the errors of all steps; a vital without windows has no spread.

        Args:
            train: windows of patients who are not evaluated.
        """
        errors = train.target.astype(np.float64) - self.point(train.context)[:, None]
        quantiles = np.zeros((len(VITALS), train.target.shape[1], len(LEVELS)))
        for vital in np.unique(train.vital):
            quantiles[vital] = _error_quantiles(errors[train.vital == vital])
        quantiles[..., :_MEDIAN] = np.minimum(quantiles[..., :_MEDIAN], 0.0)
        quantiles[..., _MEDIAN] = 0.0
        quantiles[..., _MEDIAN + 1 :] = np.maximum(quantiles[..., _MEDIAN + 1 :], 0.0)
        return replace(self, error_quantiles=quantiles)

    def forecast(self, context: FloatArray, vital: IntArray, horizon_steps: int) -> FloatArray:
        """Forecast a batch of windows; see `common.evaluation.evaluate.Forecaster`.

        Raises:
            UsageError: the horizon is longer than the one that the baseline was fitted for.
        """
        shape = (len(context), horizon_steps, len(LEVELS))
        point = np.broadcast_to(self.point(context)[:, None, None], shape)
        if self.error_quantiles is None:
            return point.astype(np.float32)
        fitted = self.error_quantiles.shape[1]
        if horizon_steps > fitted:
            raise UsageError(
                f"the baseline {self.name} was fitted for {fitted} steps ahead, got "
                f"horizon_steps = {horizon_steps}; fit it on windows of that horizon"
            )
        return (point + self.error_quantiles[vital, :horizon_steps]).astype(np.float32)


@dataclass(frozen=True, eq=False)
class LastValue(Baseline):
    """Last observed value, of any age: the naive forecast of clinical charts."""

    name: ClassVar[str] = "last_value"
    label: ClassVar[str] = "Last value"

    def point(self, context: npt.NDArray[np.floating[Any]]) -> Array:
        """Return the last observed value of each context, ``[N, C]`` to ``[N]``."""
        last = _last_observed(context)
        return context[np.arange(len(context)), last].astype(np.float64)


@dataclass(frozen=True, eq=False)
class ExponentiallyWeightedMean(Baseline):
    """Mean of the observed values, each weighted by (1 - alpha) to the power of its age.

    Age is counted in time steps, gaps included, so a value before a long gap has little weight once
    newer ones are observed. The weights are normalised over the observed values.

    Attributes:
        alpha: between 0 and 1; 1 gives the last value.

    Raises:
        UsageError: alpha is not above 0 and at most 1.
    """

    alpha: float = 0.35

    name: ClassVar[str] = "ewm"
    label: ClassVar[str] = "Exponentially weighted mean"

    def __post_init__(self) -> None:
        if not 0.0 < self.alpha <= 1.0:
            raise UsageError(f"alpha must be above 0 and at most 1, got {self.alpha}")

    def point(self, context: npt.NDArray[np.floating[Any]]) -> Array:
        """Return the weighted mean of each context, ``[N, C]`` to ``[N]``."""
        observed = ~np.isnan(context)
        # Age is counted from the last observed value: counted from the context's end, all weights
        # would underflow to 0 after a long gap.
        age = np.maximum(_last_observed(context)[:, None] - np.arange(context.shape[1]), 0)
        weight = np.where(observed, (1.0 - self.alpha) ** age, 0.0)
        total = weight.sum(axis=1)
        weighted = (weight * np.where(observed, context, 0.0)).sum(axis=1)
        mean: Array = np.full(len(context), np.nan)
        np.divide(weighted, total, out=mean, where=total > 0)
        return mean


def _last_observed(context: npt.NDArray[np.floating[Any]]) -> IntArray:
    """Return the index of the last observed value, [N]; the last index if there is none."""
    backwards = np.argmax(~np.isnan(context)[:, ::-1], axis=1)
    return np.asarray(context.shape[1] - 1 - backwards, dtype=np.int64)


def _error_quantiles(errors: Array) -> Array:
    """Return the quantiles of errors [N, H] per step, [H, Q], without NaN errors."""
    everything = errors[~np.isnan(errors)]
    if not len(everything):
        return np.zeros((errors.shape[1], len(LEVELS)))
    steps = [column[~np.isnan(column)] for column in errors.T]
    return np.stack([np.quantile(step if len(step) else everything, LEVELS) for step in steps])
