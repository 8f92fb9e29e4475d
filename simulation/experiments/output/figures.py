"""Figures of experiments in the style of the report, and their SVG files."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from common.evaluation.bootstrap import Interval
from common.reporting.style import STYLE
from common.reporting.svg import (
    INK,
    MUTED,
    Drawing,
    as_svg,
    blank_figure,
    series_colour,
    signed_per_cent,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True)
class Point:
    """Point of a trade-off figure: position, difference and label."""

    x: float
    interval: Interval
    label: str


def trade_off_figure(
    lines: Mapping[str, Sequence[Point]], *, name: str, x_label: str, y_label: str
) -> Drawing:
    """Draw relative differences with intervals over a logarithmic axis, one line per series.

    Args:
        lines: points of each series, rising by `x`; a series of one point is a mark.
        name: prefix of the figure's ids.
        x_label: label of the logarithmic axis.
        y_label: label of the differences; lower is better.
    """
    with blank_figure(5.2, 3.4) as (figure, axes):
        axes.axhline(0.0, color=MUTED, linewidth=0.8)
        for place, points in enumerate(_side_by_side(list(lines.values()))):
            colour = series_colour(place)
            xs = [point.x for point in points]
            axes.plot(xs, [100 * point.interval.estimate for point in points], color=colour)
            for point in points:
                ends = [100 * point.interval.low, 100 * point.interval.high]
                axes.plot([point.x] * 2, ends, color=colour, linewidth=1.6, alpha=0.6)
                axes.plot([point.x], [100 * point.interval.estimate], "o", color=colour)
                axes.annotate(
                    point.label,
                    (point.x, 100 * point.interval.estimate),
                    # Labels of every other series are below, or they would cover each other.
                    xytext=(6, -12 if place % 2 else 5),
                    textcoords="offset points",
                    color=INK,
                    fontsize=9,
                )
        axes.margins(x=0.1)
        _logarithmic(axes, [point.x for points in lines.values() for point in points])
        axes.grid(axis="y")
        axes.yaxis.set_major_formatter(signed_per_cent)
        axes.set_xlabel(x_label)
        axes.set_ylabel(y_label)
        texts = [
            f"{series}: {point.label} {100 * point.interval.estimate:+.2f} %"
            for series, points in lines.items()
            for point in points
        ]
        return as_svg(figure, name, f"{y_label} over {x_label}", "; ".join(texts) + ".")


_DODGE = 1.025
"""Factor between the positions of two series whose points would cover each other."""


def _side_by_side(lines: Sequence[Sequence[Point]]) -> list[list[Point]]:
    """Return the points, moved a little apart where several series have the same positions."""
    positions = [{point.x for point in points} for points in lines]
    shared = len(set().union(*positions)) < sum(map(len, positions))
    middle = (len(lines) - 1) / 2
    return [
        [replace(point, x=point.x * _DODGE ** (place - middle)) for point in points]
        if shared
        else list(points)
        for place, points in enumerate(lines)
    ]


_LABELLED: tuple[tuple[float, ...], ...] = ((1.0,), (1.0, 3.0), (1.0, 2.0, 5.0))
"""Multiples of the powers of ten that an axis may label, the fewest first."""

_LEAST_LABELS, _MOST_LABELS = 4, 6


def _logarithmic(axes: Axes, values: Sequence[float]) -> None:
    """Make the x axis logarithmic, with marks, and labels at round numbers of its range.

    Args:
        axes: the axes, with their margins.
        values: positions of the points; these are labelled if they are few and short themselves,
            or if their range has too few round numbers.
    """
    from matplotlib.ticker import FixedLocator, LogLocator

    axes.set_xscale("log")
    low, high = axes.get_xlim()
    ticks = sorted(set(values))
    if len(ticks) > _MOST_LABELS or any(len(_plain_number(tick, 0)) > 3 for tick in ticks):
        for multiples in _LABELLED:
            found = LogLocator(subs=multiples, numticks=50).tick_values(low, high)
            inside = [tick for tick in found if low <= tick <= high]
            if len(inside) >= _LEAST_LABELS:
                ticks = inside
                break
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    # The default formatter writes powers of ten in TeX, which the style does not render.
    axes.xaxis.set_major_formatter(_plain_number)
    axes.xaxis.set_minor_formatter(_no_label)
    axes.tick_params(axis="x", which="major", length=4, width=0.8)


def _plain_number(value: float, _place: float) -> str:
    return f"{value:,.10g}"


def _no_label(_value: float, _place: float) -> str:
    return ""


def sites_figure(
    rows: Mapping[str, Mapping[str, Interval]], *, name: str, metric: str, reference: str
) -> Drawing:
    """Draw a difference at each site: one row per site, one mark per arm.

    Args:
        rows: interval by site and arm; every site has the same arms.
        name: prefix of the figure's ids.
        metric: label of the metric.
        reference: label of the reference.
    """
    arms = list(next(iter(rows.values())))
    with blank_figure(5.2, 0.9 + 0.28 * len(rows) * len(arms)) as (figure, axes):
        axes.axvline(0.0, color=INK, linewidth=1.0)
        for place, by_arm in enumerate(rows.values()):
            for number, interval in enumerate(by_arm.values()):
                height = -place - 0.8 * (number + 0.5) / len(arms) + 0.4
                colour = series_colour(number)
                ends = [100 * interval.low, 100 * interval.high]
                axes.plot(ends, [height] * 2, color=colour, linewidth=2.0)
                axes.plot([100 * interval.estimate], [height], "o", color=colour, markersize=5)
        axes.set_yticks([-place for place in range(len(rows))], list(rows))
        axes.tick_params(axis="y", labelcolor=INK)
        axes.grid(axis="x", color=MUTED, alpha=0.25)
        axes.xaxis.set_major_formatter(signed_per_cent)
        axes.set_xlabel(f"{metric}, difference to {reference}")
        texts = [
            f"{site}, {arm} {100 * interval.estimate:+.2f} %"
            for site, by_arm in rows.items()
            for arm, interval in by_arm.items()
        ]
        title = f"{metric} at each site relative to {reference}"
        return as_svg(figure, name, title, "; ".join(texts) + ".")


def standalone(svg: str) -> str:
    """Return a figure of the page as an SVG file of its own, in the colours of the light scheme."""
    scheme = STYLE[: STYLE.index("@media")]
    colours = " ".join(
        f"{name}: {value};" for name, value in re.findall(r"(--[\w-]+): (#\w+)", scheme)
    )
    style = f"<style>:root {{ {colours} }} text {{ font-family: sans-serif; }}</style>"
    head, rest = svg.split(">", 1)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{head}>{style}{rest}\n'
