"""Forecast metrics on observed points: MAE, MSE, RMSE, MAPE, DTW, MASE, WQL, 80 % coverage.

Every metric is a ratio of two sums over windows. `window_totals` returns each window's numerator
and denominator. The same totals serve means over batches, patients and sites, and the patient-level
bootstrap, without the forecasts.

With y the observed target values, m the median forecast, e = y - m, n the window's number of
observed target steps, q the forecast quantile of level a:

    name         numerator of a window                        denominator     unit
    mae          sum |e|                                      n               the vital's
    mse          sum e^2                                      n               the vital's, squared
    rmse         as mse; the value is the root of the ratio   n               the vital's
    mape         100 sum |e| / max(|y|, floor of the vital)   n               %
    mase         (sum |e| / n) / scale of the context         1               -
    wql          2 sum over steps of mean over levels of      sum |y|         -
                 max(a (y - q), (a - 1) (y - q))
    coverage_80  steps with q(.1) <= y <= q(.9)               n               -
    dtw          n x `warping_distance`                       n               the vital's

WQL is GluonTS' mean weighted sum quantile loss, as the Chronos paper reports it (arXiv 2403.07815);
MASE is from Hyndman & Koehler 2006, doi 10.1016/j.ijforecast.2006.03.001. MAPE's denominator has a
floor, `common.data.vitals.Vital.mape_floor`, so that one value near 0 does not outweigh all others.
DTW is dynamic time warping, the distance of two sequences when time may be stretched.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from common.errors import UsageError
from common.names import check_name

Array = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Metric:
    """Forecast metric: a ratio of two sums over windows.

    Attributes:
        name: its name in settings and JSON.
        label: its name in reports.
        unit: ``vital`` = the vital's unit, ``vital²`` = its square, ``%``, or empty if the metric
            has no dimension.
        totals: function that returns each window's numerator and denominator, ``[N]`` both.
        lower_is_better: false for coverage, whose best value is `ideal`.
        ideal: the value of a perfect forecast.
        square_root: whether the value is the root of the ratio.
    """

    name: str
    label: str
    unit: str
    totals: Callable[[_Scored], tuple[Array, Array]]
    lower_is_better: bool = True
    ideal: float = 0.0
    square_root: bool = False

    @property
    def has_dimension(self) -> bool:
        """True if values of different vitals have different units."""
        return self.unit.startswith("vital")

    def value(self, numerator: npt.ArrayLike, denominator: npt.ArrayLike) -> Array:
        """Return the metric from summed totals of one shape; NaN where the denominator is 0."""
        below = np.asarray(denominator, dtype=np.float64)
        above = np.asarray(numerator, dtype=np.float64)
        ratio = np.divide(above, below, out=np.full(below.shape, np.nan), where=below > 0)
        return np.asarray(np.sqrt(ratio) if self.square_root else ratio)


@dataclass(frozen=True)
class WindowTotals:
    """Numerators and denominators of M metrics for N windows.

    Attributes:
        metrics: the M names, the order of the columns.
        numerator: ``[N, M]``.
        denominator: ``[N, M]``; 0 where a window has no observed target.
    """

    metrics: tuple[str, ...]
    numerator: Array
    denominator: Array

    def metric(self, name: str) -> float:
        """Return one metric over all windows together; NaN if no target is observed."""
        column = computed_column(name, self.metrics)
        sums = self.numerator[:, column].sum(), self.denominator[:, column].sum()
        return float(METRICS[name].value(*sums))


def computed_column(name: str, computed: tuple[str, ...]) -> int:
    """Return the column of a metric among the computed ones.

    Raises:
        UsageError: there is no such metric, or it was not computed.
    """
    check_name("metric", name, METRICS)
    if name not in computed:
        raise UsageError(
            f"metric {name!r} was not computed, only {', '.join(computed) or 'none'}; "
            "name it among the metrics of the evaluation"
        )
    return computed.index(name)


def window_totals(
    target: npt.NDArray[np.floating[Any]],
    quantiles: npt.NDArray[np.floating[Any]],
    levels: Sequence[float],
    context: npt.NDArray[np.floating[Any]],
    scale_floor: float | npt.NDArray[np.floating[Any]],
    metrics: Sequence[str] | None = None,
    mape_floor: float | npt.NDArray[np.floating[Any]] = 1e-6,
) -> WindowTotals:
    """Compute the totals of each window.

    Args:
        target: ``[N, H]`` in the vital's unit, NaN = not observed.
        quantiles: ``[N, H, Q]`` forecasts in the same unit, finite, rising along Q.
        levels: the Q quantile levels; .5 must be one, for coverage .1 and .9 too.
        context: ``[N, C]`` in the same unit, NaN = not observed; used only for MASE's scale.
        scale_floor: the minimum scale of MASE, in the same unit; one number or ``[N]``.
        metrics: names of `METRICS`; None = all.
        mape_floor: the minimum denominator of MAPE, in the same unit; one number or ``[N]``.

    Returns:
        The totals of each window.

    Raises:
        UsageError: an unknown metric, a level that is missing, or shapes that do not fit.
    """
    names = tuple(METRICS) if metrics is None else tuple(metrics)
    for name in names:
        check_name("metric", name, METRICS)
    scored = _Scored.of(target, quantiles, levels, context, scale_floor, mape_floor)
    totals = [METRICS[name].totals(scored) for name in names]
    empty = np.empty((len(target), 0))
    return WindowTotals(
        metrics=names,
        numerator=np.stack([above for above, _ in totals], axis=1) if totals else empty,
        denominator=np.stack([below for _, below in totals], axis=1) if totals else empty,
    )


@dataclass(frozen=True)
class _Scored:
    """Inputs that the metrics share, in float64.

    Attributes:
        target: ``[N, H]``, 0 where not observed.
        observed: ``[N, H]``.
        quantiles: ``[N, H, Q]``.
        levels: ``[Q]``.
        error: ``[N, H]``, target - median, 0 where not observed.
        context: ``[N, C]``.
        scale_floor: a number or ``[N]``.
        mape_floor: ``[N, 1]``.
    """

    target: Array
    observed: BoolArray
    quantiles: Array
    levels: Array
    error: Array
    context: npt.NDArray[np.floating[Any]]
    scale_floor: float | npt.NDArray[np.floating[Any]]
    mape_floor: Array

    @classmethod
    def of(
        cls,
        target: npt.NDArray[np.floating[Any]],
        quantiles: npt.NDArray[np.floating[Any]],
        levels: Sequence[float],
        context: npt.NDArray[np.floating[Any]],
        scale_floor: float | npt.NDArray[np.floating[Any]],
        mape_floor: float | npt.NDArray[np.floating[Any]],
    ) -> _Scored:
        if quantiles.shape != (*target.shape, len(levels)) or len(context) != len(target):
            raise UsageError(
                "target [N, H], quantiles [N, H, Q] and context [N, C] must fit together, got "
                f"{target.shape}, {quantiles.shape} at {len(levels)} levels and {context.shape}"
            )
        known = np.asarray(levels, dtype=np.float64)
        observed = ~np.isnan(target)
        values = np.where(observed, target, 0.0).astype(np.float64)
        wide = quantiles.astype(np.float64)
        error = np.where(observed, values - wide[..., _level(known, 0.5)], 0.0)
        floor = np.broadcast_to(np.asarray(mape_floor, np.float64), len(target))[:, None]
        return cls(values, observed, wide, known, error, context, scale_floor, floor)

    @property
    def count(self) -> Array:
        """Observed target steps of each window, [N]."""
        count: Array = self.observed.sum(axis=1, dtype=np.float64)
        return count


def _level(levels: Array, wanted: float) -> int:
    found = np.flatnonzero(np.isclose(levels, wanted))
    if not len(found):
        raise UsageError(
            f"quantile level {wanted:g} is needed, got {', '.join(f'{x:g}' for x in levels)}"
        )
    return int(found[0])


def _absolute(scored: _Scored) -> tuple[Array, Array]:
    return np.abs(scored.error).sum(axis=1), scored.count


def _squared(scored: _Scored) -> tuple[Array, Array]:
    return np.square(scored.error).sum(axis=1), scored.count


def _percentage(scored: _Scored) -> tuple[Array, Array]:
    size = np.maximum(np.abs(scored.target), scored.mape_floor)
    return 100.0 * (np.abs(scored.error) / size).sum(axis=1), scored.count


def _scaled(scored: _Scored) -> tuple[Array, Array]:
    count = scored.count
    scale = naive_scale(scored.context, scored.scale_floor)
    total = np.abs(scored.error).sum(axis=1)
    return total / np.maximum(count, 1.0) / scale, (count > 0).astype(np.float64)


def naive_scale(
    context: npt.NDArray[np.floating[Any]], floor: float | npt.NDArray[np.floating[Any]]
) -> Array:
    """Return MASE's scale: the mean absolute difference of successive observed values.

    It is the in-context error of forecasting each observed value by the observed one before it.
    Gaps between the two are ignored, because charted vitals are rarely measured at every step, and
    temperature hardly ever at two steps in a row.

    Args:
        context: ``[N, C]``, NaN = not observed.
        floor: the minimum scale, one number or ``[N]``; also the scale if fewer than two values
            are observed. It keeps a constant context such as SpO2 98, 98, 98 from dividing by 0.

    Returns:
        ``[N]`` in the unit of the context.
    """
    order = np.argsort(np.isnan(context), axis=1, kind="stable")
    observed = np.take_along_axis(context, order, axis=1).astype(np.float64)
    steps = np.abs(np.diff(observed, axis=1))  # NaN after the last observed value
    count = np.maximum((~np.isnan(steps)).sum(axis=1), 1)
    return np.asarray(np.maximum(np.nansum(steps, axis=1) / count, floor))


def _weighted_quantile_loss(scored: _Scored) -> tuple[Array, Array]:
    error = scored.target[..., None] - scored.quantiles  # [N, H, Q]
    pinball = np.maximum(scored.levels * error, (scored.levels - 1.0) * error).mean(axis=2)
    loss = 2.0 * np.where(scored.observed, pinball, 0.0).sum(axis=1)
    return loss, np.abs(scored.target).sum(axis=1)


def _coverage_80(scored: _Scored) -> tuple[Array, Array]:
    low = scored.quantiles[..., _level(scored.levels, 0.1)]
    high = scored.quantiles[..., _level(scored.levels, 0.9)]
    inside = scored.observed & (scored.target >= low) & (scored.target <= high)
    return inside.sum(axis=1).astype(np.float64), scored.count


def _warped(scored: _Scored) -> tuple[Array, Array]:
    # Observed steps are moved to the left, in their order, so the warping has no gaps.
    order = np.argsort(~scored.observed, axis=1, kind="stable")
    target = np.take_along_axis(scored.target, order, axis=1)
    error = np.take_along_axis(scored.error, order, axis=1)
    count = scored.observed.sum(axis=1)
    return count * warping_distance(target, target - error, count), count.astype(np.float64)


def warping_distance(first: Array, second: Array, length: npt.NDArray[np.integer[Any]]) -> Array:
    """Return the time-normalised dynamic time warping distance of pairs of sequences.

    The symmetric form without slope constraint (table I, P = 0) of Sakoe & Chiba 1978, doi
    10.1109/TASSP.1978.1163055, with the absolute difference as local cost: a diagonal step counts
    twice, and the total is divided by the sum of both lengths. The diagonal path alone gives the
    mean absolute difference, so the distance is at most that: it forgives values a step early or
    late. It must not be compared with unnormalised distances, which grow with the horizon.

    Args:
        first: ``[N, H]``.
        second: ``[N, H]``, in the same unit.
        length: ``[N]``, number of leading steps to compare; 0 gives distance 0.

    Returns:
        ``[N]``, in the unit of the sequences.
    """
    windows, steps = first.shape
    # total[i, j]: lowest cost of matching the first i steps of one with the first j of the other.
    total = np.full((steps + 1, steps + 1, windows), np.inf)
    total[0, 0] = 0.0
    for i in range(steps):
        for j in range(steps):
            cost = np.abs(first[:, i] - second[:, j])
            aside = np.minimum(total[i, j + 1], total[i + 1, j]) + cost
            total[i + 1, j + 1] = np.minimum(total[i, j] + 2.0 * cost, aside)
    # A cell depends on earlier steps only, so one table serves windows of every length.
    return np.asarray(total[length, length, np.arange(windows)] / np.maximum(2 * length, 1))


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("mae", "MAE", "vital", _absolute),
        Metric("mse", "MSE", "vital²", _squared),
        Metric("rmse", "RMSE", "vital", _squared, square_root=True),
        Metric("mape", "MAPE", "%", _percentage),
        Metric("mase", "MASE", "", _scaled),
        Metric("wql", "WQL", "", _weighted_quantile_loss),
        Metric("coverage_80", "80 % coverage", "", _coverage_80, lower_is_better=False, ideal=0.8),
        Metric("dtw", "DTW", "vital", _warped),
    )
}
"""All metrics by name."""


def steps_at_or_below(
    target: npt.NDArray[np.floating[Any]], quantiles: npt.NDArray[np.floating[Any]]
) -> npt.NDArray[np.int64]:
    """Count the observed steps at or below each forecast quantile.

    For a calibrated forecast their share approaches the quantile's level. (Gneiting, Balabdaoui &
    Raftery 2007, doi 10.1111/j.1467-9868.2007.00587.x)

    Args:
        target: ``[N, H]``, NaN = not observed; such steps are not counted.
        quantiles: ``[N, H, Q]`` in the same unit.

    Returns:
        ``[N, Q]``.
    """
    # A comparison with NaN is False.
    return np.asarray((target[..., None] <= quantiles).sum(axis=1), dtype=np.int64)
