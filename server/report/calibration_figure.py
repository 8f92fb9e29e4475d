"""The calibration plots: what the forecast's levels announce against what was measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from common.evaluation.metrics import METRICS
from common.reporting.phrasing import MINUS, Interval
from server.report.figures import ACCENT, INK, MUTED, as_svg, blank_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Curves = Mapping[str, Mapping[str, Any]]
"""Of ``adapter`` and ``zero_shot``, each from `calibration.Reliability.to_json`."""

MEAN_SIZE = (4.6, 3.4)
"""Width and height in inches of the figures of the mean, which stand side by side."""

_LEAST_SPAN = 5.0


def reliability_figure(curves: Curves, levels: Sequence[float]) -> str:
    """Draw the shares of measurements at or below each level over the diagonal.

    Args:
        curves: the shares in the mean over vitals; the adapter's with intervals.
        levels: the nominal levels.
    """
    with blank_figure(*MEAN_SIZE) as (figure, axes):
        axes.plot([0, 100], [0, 100], color=MUTED, linewidth=0.8)
        _draw(axes, curves, levels, [0.0] * len(levels))
        axes.set_xlim(0, 100)
        axes.set_ylim(0, 100)
        axes.set_xticks(range(0, 101, 20))
        axes.set_yticks(range(0, 101, 20))
        axes.grid(axis="both")
        axes.set_xlabel("announced at or below, %")
        axes.set_ylabel("measured at or below, %")
        title = "Calibration in the mean over vital signs"
        return as_svg(figure, "reliability", title, calibration_text(curves, levels))


def departure_figure(
    curves: Curves,
    levels: Sequence[float],
    span: float,
    *,
    name: str,
    title: str,
    size: tuple[float, float] = (3.6, 2.3),
) -> str:
    """Draw what was measured minus what was announced, in percentage points, by level.

    Args:
        curves: the shares of one vital, or of their mean; the adapter's with intervals.
        levels: the nominal levels.
        span: the points that the axis reaches either way, as `departure_span` gives them.
        name: of the figure's ids.
        title: how the figure is called aloud.
        size: width and height in inches.
    """
    with blank_figure(*size) as (figure, axes):
        axes.axhline(0.0, color=MUTED, linewidth=0.8)
        _draw(axes, curves, levels, [100 * level for level in levels])
        axes.set_xlim(0, 100)
        axes.set_ylim(-span, span)
        axes.set_xticks(range(10, 91, 20))
        axes.yaxis.set_major_formatter(_signed)
        axes.grid(axis="y")
        axes.set_xlabel("announced at or below, %")
        return as_svg(figure, f"departure-{name}", title, calibration_text(curves, levels))


def departure_span(every: Sequence[Curves], levels: Sequence[float]) -> float:
    """Return the points that hold all curves with their intervals, so that one axis fits all."""
    away: list[float] = [
        abs(100 * (value - level))
        for curves in every
        for curve in curves.values()
        for interval, level in zip(curve["below"], levels, strict=True)
        for value in interval.values()
        if value is not None
    ]
    return max([_LEAST_SPAN, *(1.1 * value for value in away)])


def calibration_text(curves: Curves, levels: Sequence[float]) -> str:
    """Say where the adapter's curve is farthest from what it announces, and its 80 % range."""
    ours = curves["adapter"]
    known = [
        (abs(one["estimate"] - level), level, one["estimate"])
        for level, one in zip(levels, ours["below"], strict=True)
        if one["estimate"] is not None
    ]
    if not known:
        return "There is nothing to draw."
    _, level, share = max(known)
    inside = ours["inside_80"]["estimate"]
    ideal = METRICS["coverage_80"].ideal
    return (
        f"The adapter is farthest from what it announces at the level of {100 * level:.0f} %: "
        f"{100 * share:.1f} % of the measurements lay at or below it. Its {100 * ideal:.0f} % "
        f"range held {100 * inside:.1f} %."
    )


def _draw(axes: Axes, curves: Curves, levels: Sequence[float], base: Sequence[float]) -> None:
    """Draw both models' shares in per cent, less `base`."""
    nominal = [100 * level for level in levels]
    ours, reference = curves["adapter"]["below"], curves["zero_shot"]["below"]
    low, high, estimate = (_per_cent(ours, end, base) for end in ("low", "high", "estimate"))
    axes.fill_between(nominal, low, high, color=ACCENT, alpha=0.18, linewidth=0)
    axes.plot(
        nominal,
        _per_cent(reference, "estimate", base),
        color=INK,
        linewidth=1.2,
        linestyle=(0, (3, 2)),
    )
    axes.plot(nominal, estimate, "o-", color=ACCENT, linewidth=2, markersize=4)


def _per_cent(intervals: Sequence[Interval], end: str, base: Sequence[float]) -> list[float]:
    """One end of every interval; where there is none, NaN, which is not drawn."""
    return [
        float("nan") if interval.get(end) is None else 100 * interval[end] - less
        for interval, less in zip(intervals, base, strict=True)
    ]


def _signed(value: float, _place: float) -> str:
    sign = "" if abs(value) < 1e-9 else (MINUS if value < 0 else "+")
    return f"{sign}{abs(value):.3g}"
