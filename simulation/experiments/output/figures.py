"""Figures of experiments in the style of the report, and their SVG files."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

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
        for place, points in enumerate(lines.values()):
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
                    xytext=(5, 4),
                    textcoords="offset points",
                    color=INK,
                    fontsize=9,
                )
        axes.set_xscale("log")
        # The default formatter writes powers of ten in TeX, which the style does not render.
        axes.xaxis.set_major_formatter(_plain_number)
        axes.xaxis.set_minor_formatter(_no_label)
        axes.margins(x=0.1)
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
