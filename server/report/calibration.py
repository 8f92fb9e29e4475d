"""The section of calibration: whether the quantiles hold as many measurements as they announce."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from common.reporting.components import Figure, Mark, Part, Row, Section, Table, drawn
from common.reporting.phrasing import NOTHING, VITAL_LABELS, Interval, number
from server.report.calibration_figure import (
    MEAN_SIZE,
    Curves,
    departure_figure,
    departure_span,
    reliability_figure,
)

_HOW = """\
A forecast announces levels: 10 % of what is measured should lie at or below its lowest level, 20 %
at or below the next, up to 90 %. On the diagonal it keeps its word. A curve that is flatter than
the diagonal belongs to ranges that are too narrow, a steeper one to ranges that are too wide; one
that lies above it as a whole belongs to forecasts that are too high."""

_DEPARTURES = """\
Measured minus announced, in percentage points; one scale for all."""

_BAND = """\
The band around the adapter's curve is its 95 % interval over patients, at each level for itself.
The mean over vital signs is unweighted."""

_ABSENT = """\
This evaluation kept no counts per level; evaluate again with this release to see them."""

MEAN = "Mean over vitals"


def calibration_section(evaluation: Mapping[str, Any] | None) -> Section | None:
    """Return the section; None before an evaluation."""
    if evaluation is None:
        return None
    calibration = evaluation["pooled"].get("calibration")
    if not calibration:
        return Section("calibration", "Calibration", [Part(paragraphs=[" ".join(_ABSENT.split())])])
    levels = calibration["adapter"]["levels"]
    mean: Curves = {model: one["mean"] for model, one in calibration.items()}
    vitals: dict[str, Curves] = {
        vital: {model: one["vitals"][vital] for model, one in calibration.items()}
        for vital in calibration["adapter"]["vitals"]
    }
    rows = {VITAL_LABELS[vital]: curves for vital, curves in vitals.items()} | {MEAN: mean}
    parts = [
        Part(paragraphs=[_HOW], legend=_legend(), figures=_mean_figures(mean, levels)),
        Part("Per vital sign", [_DEPARTURES], figures=_vital_figures(vitals, levels), small=True),
        Part(
            tables=[_band_table(rows)],
            folded_title="All levels in numbers",
            folded=[_level_table(rows, levels)],
            notes=[_BAND],
        ),
    ]
    return Section("calibration", "Calibration", parts)


def _mean_figures(mean: Curves, levels: list[float]) -> list[Figure]:
    title = "Measured minus announced, in the mean over vital signs"
    span = departure_span([mean], levels)
    svg = departure_figure(mean, levels, span, name="mean", title=title, size=MEAN_SIZE)
    return [
        Figure(
            "Measured against announced",
            "In the mean over vital signs; on the diagonal the forecast keeps its word.",
            drawn(reliability_figure(mean, levels)),
        ),
        Figure(
            "Measured minus announced",
            "The same in percentage points: the closer to zero, the better.",
            drawn(svg),
        ),
    ]


def _vital_figures(vitals: Mapping[str, Curves], levels: list[float]) -> list[Figure]:
    span = departure_span(list(vitals.values()), levels)
    figures = []
    for vital, curves in vitals.items():
        title = f"{VITAL_LABELS[vital]}: measured minus announced"
        svg = departure_figure(curves, levels, span, name=vital, title=title)
        figures.append(Figure(VITAL_LABELS[vital], "", drawn(svg)))
    return figures


def _band_table(rows: Mapping[str, Curves]) -> Table:
    header = ["Vital sign", "Zero-shot, %", "Federated adapter, %"]
    cells = [
        Row(
            label,
            [_share(curves[model]["inside_80"]) for model in ("zero_shot", "adapter")],
            mean=label == MEAN,
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
            mean=label == MEAN,
        )
        for label, curves in rows.items()
    ]
    caption = "Measurements at or below each level of the adapter's forecast, in %"
    return Table(caption, header, cells)


def _share(interval: Interval) -> str:
    """A share in per cent with its interval, where it has one."""
    ends = ("estimate", "low", "high")
    value, low, high = (
        NOTHING if interval.get(end) is None else number(100 * interval[end], 1) for end in ends
    )
    return (
        value
        if NOTHING in (low, high)
        else drawn('{}<span class="interval">[{}, {}]</span>', value, low, high)
    )


def _legend() -> list[Mark]:
    line = '<line x1="1" x2="27" y1="6" y2="6" style="{}"/>'
    band = '<rect x="1" y="0" width="26" height="12" style="fill: var(--accent); opacity: .2"/>'
    dot = '<circle cx="14" cy="6" r="3" style="fill: var(--accent)"/>'
    accent, ink = "stroke: var(--accent); stroke-width: 2", "stroke: var(--ink); stroke-width: 1.5"
    return [
        Mark(
            drawn(band) + drawn(line, accent) + drawn(dot), "adapter, with its 95\u00a0% interval"
        ),
        Mark(drawn(line, f"{ink}; stroke-dasharray: 5 4"), "zero-shot"),
        Mark(drawn(line, "stroke: var(--muted); stroke-width: 1"), "calibrated"),
    ]
