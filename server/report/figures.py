"""The report's figures: SVG text to put into the page, in the page's own fonts and colours.

matplotlib draws with placeholder colours, which then become the page's CSS variables: one figure
serves the light and the dark scheme. Text stays text, so that it can be read aloud, searched and
enlarged. Nothing that a site sent is drawn: names of sites stand in the page's legends.
"""

from __future__ import annotations

import html
import io
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from common.data.site_table import VITALS
from common.evaluation.evaluate import LEVELS
from common.reporting.phrasing import MINUS, Interval
from server.report.examples import Example
from server.runs.run_reader import Curve

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.typing import RcKeyType

SERIES = 8
"""Colours of the page for sites; further sites take the same ones with other dashes."""

# Placeholders: no two alike, and none that matplotlib uses by itself.
INK, MUTED, GRID, ACCENT = "#010203", "#010204", "#010205", "#010206"
_VARIABLES = {
    INK: "--ink",
    MUTED: "--muted",
    GRID: "--rule",
    ACCENT: "--accent",
    **{f"#0203{index:02x}": f"--series-{index}" for index in range(1, SERIES + 1)},
}
_DASHES: tuple[tuple[float, ...], ...] = ((), (5, 2), (1.5, 1.5))

# Other metadata, a style that would hold for the whole page, ids that all figures share, and fonts.
_NOT_FOR_THE_PAGE = tuple(
    re.compile(pattern, re.DOTALL)
    for pattern in (
        r"<metadata>.*?</metadata>",
        r"<style.*?</style>",
        r'(?<=<g) id="[^"]*"',
        r"font-family: [^;]*; ",
    )
)

_STYLE: dict[RcKeyType, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "fedvitals",
    "font.family": "sans-serif",
    "font.size": 11.0,
    "text.parse_math": False,
    "text.color": INK,
    "axes.edgecolor": GRID,
    "axes.labelcolor": MUTED,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.xmargin": 0.03,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.major.size": 0.0,
    "ytick.major.size": 0.0,
    "lines.solid_capstyle": "round",
    "figure.facecolor": "none",
    "axes.facecolor": "none",
}


@dataclass(frozen=True)
class Series:
    """A site's curve; its place among the sites, 0 the first, decides colour and dashes."""

    place: int
    curve: Curve


def series_colour(place: int) -> str:
    """Return the placeholder of the colour at a place."""
    return f"#0203{place % SERIES + 1:02x}"


def series_css(place: int) -> str:
    """Return the CSS of the line of the site at a place, for a legend."""
    dashes = " ".join(f"{2 * length:g}" for length in _dashes(place))
    stroke = f"stroke: var(--series-{place % SERIES + 1}); stroke-width: 2"
    return f"{stroke}; stroke-dasharray: {dashes}" if dashes else stroke


def validation_figure(sites: Sequence[Series], mean: Curve, best_round: int) -> str:
    """Draw validation WQL by round in per cent of its value before training, a line a site.

    Args:
        sites: relative changes by round.
        mean: of all sites together.
        best_round: the released round, which is marked on `mean`.
    """
    with blank_figure(4.6, 3.0) as (figure, axes):
        axes.axhline(0.0, color=MUTED, linewidth=0.8)
        _draw_curves(axes, [replace(site, curve=_per_cent(site.curve)) for site in sites])
        rounds, values = _columns(_per_cent(mean))
        axes.plot(rounds, values, color=INK, linewidth=2.4)
        for number, value in zip(rounds, values, strict=True):
            if number == best_round:
                axes.plot([number], [value], "o", color=INK, markersize=6)
        axes.yaxis.set_major_formatter(signed_per_cent)
        _label_rounds(axes)
        return as_svg(
            figure,
            "validation",
            "Validation WQL by round, relative to the untrained adapter",
            f"All sites together change by {mean[-1][1]:+.2%} up to round {mean[-1][0]}. "
            "Lower is better.",
        )


def loss_figure(sites: Sequence[Series]) -> str:
    """Draw each site's mean training loss by round."""
    with blank_figure(4.6, 3.0) as (figure, axes):
        _draw_curves(axes, sites)
        _label_rounds(axes)
        falling = sum(site.curve[-1][1] < site.curve[0][1] for site in sites if site.curve)
        return as_svg(
            figure,
            "loss",
            "Mean training loss by round",
            f"In the last round it is lower than in the first at {falling} of {len(sites)} sites.",
        )


def differences_figure(
    rows: Mapping[str, Interval], metric: str, reference: str = "zero-shot"
) -> str:
    """Draw relative differences with their intervals, one row each, the first on top.

    Args:
        rows: intervals of shares by label.
        metric: the metric's label.
        reference: what they are relative to.
    """
    with blank_figure(4.6, 0.75 + 0.32 * len(rows)) as (figure, axes):
        axes.axvline(0.0, color=INK, linewidth=1.0)
        for place, (_, interval) in enumerate(rows.items()):
            estimate, low, high = (interval.get(key) for key in ("estimate", "low", "high"))
            height = -place
            if low is not None and high is not None:
                axes.plot([100 * low, 100 * high], [height, height], color=ACCENT, linewidth=2.2)
            if estimate is not None:
                axes.plot([100 * estimate], [height], "o", color=ACCENT, markersize=6)
        axes.set_yticks([-place for place in range(len(rows))], list(rows))
        axes.tick_params(axis="y", labelcolor=INK)
        axes.set_ylim(-len(rows) + 0.4, 0.6)
        axes.grid(axis="x")
        axes.spines["left"].set_visible(False)
        axes.xaxis.set_major_formatter(signed_per_cent)
        axes.set_xlabel(f"{metric}, difference to {reference}")
        return as_svg(
            figure,
            f"differences-{metric.lower()}",
            f"{metric} relative to {reference}, with 95 % intervals",
            "The same figures stand in the tables below. Left of zero is better.",
        )


def example_figure(example: Example, step_minutes: int) -> str:
    """Draw one forecast: what was seen, what came, and the adapter's quantile bands."""
    vital = VITALS[example.vital]
    hours = step_minutes / 60
    horizon = len(example.target)
    # The last of the past is what matters beside the forecast; the rest would squeeze it.
    context = example.context[-4 * horizon :]
    past = hours * np.arange(-len(context), 0)
    ahead = hours * np.arange(horizon)
    with blank_figure(3.6, 2.3) as (figure, axes):
        bands = example.quantiles.T  # [Q, H]
        for low in range(len(LEVELS) // 2):
            axes.fill_between(
                ahead, bands[low], bands[-1 - low], color=ACCENT, alpha=0.14, linewidth=0
            )
        axes.axvline(-hours / 2, color=MUTED, linewidth=0.8, linestyle=(0, (2, 2)))
        seen = ~np.isnan(context)
        axes.plot(past[seen], context[seen], ".-", color=MUTED, linewidth=1, markersize=4)
        axes.plot(ahead, bands[LEVELS.index(0.5)], color=ACCENT, linewidth=2)
        axes.plot(ahead, example.zero_shot, color=INK, linewidth=1.2, linestyle=(0, (3, 2)))
        axes.plot(ahead, example.target, "o", color=INK, markersize=4)
        axes.set_xlim(past[0] - hours / 2, ahead[-1] + hours / 2)
        axes.grid(axis="y")
        axes.set_xlabel("hours from the forecast's origin")
        return as_svg(
            figure,
            f"example-{vital.name}-{example.kind}",
            f"{vital.label}: a {example.kind} forecast",
            _example_text(example),
        )


def _example_text(example: Example) -> str:
    unit = VITALS[example.vital].unit
    last = example.context[~np.isnan(example.context)][-1]
    low, median, high = (example.quantiles[-1, LEVELS.index(level)] for level in (0.1, 0.5, 0.9))
    came = example.target[~np.isnan(example.target)]
    return (
        f"Last value seen {last:.1f} {unit}. At the end of the horizon the median forecast is "
        f"{median:.1f}, 80 % band {low:.1f} to {high:.1f}. Observed in the horizon: "
        f"{came.min():.1f} to {came.max():.1f} {unit}."
    )


def _draw_curves(axes: Axes, sites: Iterable[Series]) -> None:
    for site in sites:
        rounds, values = _columns(site.curve)
        axes.plot(
            rounds,
            values,
            color=series_colour(site.place),
            linestyle=(0, _dashes(site.place) or None),
            linewidth=1.6,
            marker="o" if len(site.curve) == 1 else None,
        )


def _dashes(place: int) -> tuple[float, ...]:
    """Return the dashes of a place, in line widths: the sites of one colour differ in them."""
    return _DASHES[place // SERIES % len(_DASHES)]


def _label_rounds(axes: Axes) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.grid(axis="y")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6, min_n_ticks=1))
    axes.set_xlabel("round")


def _columns(curve: Curve) -> tuple[list[int], list[float]]:
    return [number for number, _ in curve], [value for _, value in curve]


def _per_cent(curve: Curve) -> Curve:
    return [(number, 100 * value) for number, value in curve]


def signed_per_cent(value: float, _place: float) -> str:
    """Format a tick of an axis in per cent."""
    sign = "" if abs(value) < 1e-9 else (MINUS if value < 0 else "+")
    return f"{sign}{abs(value):.3g} %"


@contextmanager
def blank_figure(width: float, height: float) -> Iterator[tuple[Figure, Axes]]:
    """Give a figure of inches, with 72 units of the drawing to the inch."""
    # Without pyplot, which would keep state and look for a display.
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context(_STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        yield figure, figure.subplots()


def as_svg(figure: Figure, name: str, title: str, description: str) -> str:
    """Return the figure as an <svg> element with a name and a description for screen readers."""
    from matplotlib import rc_context

    buffer = io.StringIO()
    # Ids are hashes with this salt: figures in one page must not share any.
    with rc_context({"svg.hashsalt": f"fedvitals-{name}"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    for pattern in _NOT_FOR_THE_PAGE:
        text = pattern.sub("", text)
    for placeholder, variable in _VARIABLES.items():
        text = text.replace(placeholder, f"var({variable})")
    head, body = text.split(">", 1)
    box = re.search(r'viewBox="[^"]+"', head)
    frame = box.group(0) if box else ""
    label = (
        f'<title id="{name}-title">{html.escape(title)}</title>'
        f'<desc id="{name}-text">{html.escape(description)}</desc>'
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'{frame} role="img" aria-labelledby="{name}-title {name}-text">{label}{body}'
    )
