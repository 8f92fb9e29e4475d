"""Calibration section: the forecast quantiles against the shares measured at or below them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from common.evaluation.metrics import METRICS
from common.reporting.cells import NumberCell, bracketed
from common.reporting.components import (
    Figure,
    LegendEntry,
    Part,
    Row,
    Section,
    Table,
    raw_html,
)
from common.reporting.phrasing import VITAL_LABELS, IntervalJson
from common.reporting.svg import ACCENT, INK, MUTED, Drawing, as_svg, blank_figure, signed_tick

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Curves = Mapping[str, Mapping[str, Any]]
"""Curves of ``adapter`` and ``zero_shot``, each from `Reliability.to_json`."""

_MEAN = "Mean over vitals"

_MEAN_SIZE = (4.6, 3.4)
"""Width and height in inches of the two figures of the mean, which are side by side."""

_LEAST_SPAN = 5.0

_READING = """\
A forecast gives quantiles: 10 % of the measurements should be at or below the lowest one, 20 % at
or below the next, up to 90 %. A calibrated forecast follows the diagonal. A curve flatter than the
diagonal means that the ranges are too narrow, a steeper one that they are too wide. A curve that is
above the diagonal as a whole means that the forecasts are too high."""

_DEPARTURES = """\
Measured minus nominal share, in percentage points; one scale for all."""

_BAND = """\
The band around the adapter's curve is its 95 % interval over patients, at each level separately.
The mean over vital signs is unweighted."""

_ABSENT = """\
This evaluation has no counts per quantile level; evaluate again with this release to see them."""


def calibration_section(evaluation: Mapping[str, Any] | None) -> Section | None:
    """Return the section; None before an evaluation."""
    if evaluation is None:
        return None
    calibration = evaluation["pooled"].get("calibration")
    if not calibration:
        return Section("calibration", "Calibration", [Part(paragraphs=[_ABSENT])])
    levels = calibration["adapter"]["levels"]
    mean: Curves = {model: one["mean"] for model, one in calibration.items()}
    vitals: dict[str, Curves] = {
        vital: {model: one["vitals"][vital] for model, one in calibration.items()}
        for vital in calibration["adapter"]["vitals"]
    }
    rows = {VITAL_LABELS[vital]: curves for vital, curves in vitals.items()} | {_MEAN: mean}
    parts = [
        Part(paragraphs=[_READING], legend=_legend(), figures=_mean_figures(mean, levels)),
        Part("Per vital sign", [_DEPARTURES], figures=_vital_figures(vitals, levels), small=True),
        Part(
            tables=[_band_table(rows)],
            folded_title="All levels in numbers",
            folded=[_level_table(rows, levels)],
            notes=[_BAND],
        ),
    ]
    return Section("calibration", "Calibration", parts)


def _legend() -> list[LegendEntry]:
    line = '<line x1="1" x2="27" y1="6" y2="6" style="{}"/>'
    band = '<rect x="1" y="0" width="26" height="12" style="fill: var(--accent); opacity: .2"/>'
    dot = '<circle cx="14" cy="6" r="3" style="fill: var(--accent)"/>'
    accent, ink = "stroke: var(--accent); stroke-width: 2", "stroke: var(--ink); stroke-width: 1.5"
    return [
        LegendEntry(
            raw_html(band) + raw_html(line, accent) + raw_html(dot),
            "adapter, with its 95\u00a0% interval",
        ),
        LegendEntry(raw_html(line, f"{ink}; stroke-dasharray: 5 4"), "zero-shot"),
        LegendEntry(raw_html(line, "stroke: var(--muted); stroke-width: 1"), "calibrated"),
    ]


def _mean_figures(mean: Curves, levels: list[float]) -> list[Figure]:
    title = "Measured minus nominal share, in the mean over vital signs"
    span = departure_span([mean], levels)
    svg = departure_figure(mean, levels, span, name="mean", title=title, size=_MEAN_SIZE)
    return [
        Figure(
            "Measured against nominal share",
            "In the mean over vital signs; a calibrated forecast follows the diagonal.",
            raw_html(reliability_figure(mean, levels)),
        ),
        Figure(
            "Measured minus nominal share",
            "The same in percentage points: the closer to zero, the better.",
            raw_html(svg),
        ),
    ]


def _vital_figures(vitals: Mapping[str, Curves], levels: list[float]) -> list[Figure]:
    span = departure_span(list(vitals.values()), levels)
    figures = []
    for vital, curves in vitals.items():
        title = f"{VITAL_LABELS[vital]}: measured minus nominal share"
        svg = departure_figure(curves, levels, span, name=vital, title=title)
        figures.append(Figure(VITAL_LABELS[vital], "", raw_html(svg)))
    return figures


def reliability_figure(curves: Curves, levels: Sequence[float]) -> Drawing:
    """Draw the shares of measurements at or below each quantile, with the diagonal.

    Args:
        curves: shares in the mean over vitals; the adapter's with intervals.
        levels: the nominal levels.
    """
    with blank_figure(*_MEAN_SIZE) as (figure, axes):
        axes.plot([0, 100], [0, 100], color=MUTED, linewidth=0.8)
        _draw(axes, curves, levels, [0.0] * len(levels))
        axes.set_xlim(0, 100)
        axes.set_ylim(0, 100)
        axes.set_xticks(range(0, 101, 20))
        axes.set_yticks(range(0, 101, 20))
        axes.grid(axis="both")
        axes.set_xlabel("nominal share at or below, %")
        axes.set_ylabel("measured share at or below, %")
        title = "Calibration in the mean over vital signs"
        return as_svg(figure, "reliability", title, calibration_text(curves, levels))


def departure_span(every: Sequence[Curves], levels: Sequence[float]) -> float:
    """Return the percentage points of an axis that fits all curves with their intervals."""
    away: list[float] = [
        abs(100 * (value - level))
        for curves in every
        for curve in curves.values()
        for interval, level in zip(curve["below"], levels, strict=True)
        for value in interval.values()
        if value is not None
    ]
    return max([_LEAST_SPAN, *(1.1 * value for value in away)])


def departure_figure(
    curves: Curves,
    levels: Sequence[float],
    span: float,
    *,
    name: str,
    title: str,
    size: tuple[float, float] = (3.6, 2.3),
) -> Drawing:
    """Draw measured minus nominal share in percentage points, by level.

    Args:
        curves: shares of one vital, or of their mean; the adapter's with intervals.
        levels: the nominal levels.
        span: percentage points of the axis in either direction, see `departure_span`.
        name: part of the figure's ids.
        title: the figure's name for screen readers.
        size: width and height in inches.
    """
    with blank_figure(*size) as (figure, axes):
        axes.axhline(0.0, color=MUTED, linewidth=0.8)
        _draw(axes, curves, levels, [100 * level for level in levels])
        axes.set_xlim(0, 100)
        axes.set_ylim(-span, span)
        axes.set_xticks(range(10, 91, 20))
        axes.yaxis.set_major_formatter(signed_tick)
        axes.grid(axis="y")
        axes.set_xlabel("nominal share at or below, %")
        return as_svg(figure, f"departure-{name}", title, calibration_text(curves, levels))


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


def _per_cent(intervals: Sequence[IntervalJson], end: str, base: Sequence[float]) -> list[float]:
    """Return one end of every interval; NaN, which is not drawn, where it is undefined."""
    return [
        float("nan") if interval.get(end) is None else 100 * interval[end] - less
        for interval, less in zip(intervals, base, strict=True)
    ]


def calibration_text(curves: Curves, levels: Sequence[float]) -> str:
    """Return the adapter's largest departure from a level and the coverage of its 80 % range."""
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
        f"The adapter departs most from calibration at the level of {100 * level:.0f} %: "
        f"{100 * share:.1f} % of the measurements were at or below it. Its {100 * ideal:.0f} % "
        f"range contained {100 * inside:.1f} %."
    )


def _band_table(rows: Mapping[str, Curves]) -> Table:
    header = ["Vital sign", "Zero-shot, %", "Federated adapter, %"]
    cells = [
        Row(
            label,
            [_share(curves[model]["inside_80"]) for model in ("zero_shot", "adapter")],
            mean=label == _MEAN,
        )
        for label, curves in rows.items()
    ]
    caption = "Measurements inside the 80 % range, in % with 95 % intervals; best at 80"
    return Table(caption, header, cells)


def _level_table(rows: Mapping[str, Curves], levels: list[float]) -> Table:
    header = ["Vital sign", *(f"{100 * level:.0f} %" for level in levels)]
    cells = [
        Row(
            label,
            [_share(interval) for interval in curves["adapter"]["below"]],
            mean=label == _MEAN,
        )
        for label, curves in rows.items()
    ]
    caption = "Measurements at or below each quantile of the adapter's forecast, in %"
    return Table(caption, header, cells)


def _share(interval: IntervalJson) -> NumberCell:
    """Return a share in per cent, with its interval if it has one."""
    return bracketed(interval, 1, scale=100.0)
