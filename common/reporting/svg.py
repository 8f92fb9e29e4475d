"""Figures as SVG text for an HTML page, in the page's own fonts and colours.

matplotlib draws with placeholder colours, which are then replaced by the page's CSS variables: one
figure serves the light and the dark scheme. Text stays text, so it can be read aloud, searched and
enlarged. Nothing that a site sent is drawn: site names appear only in the page's legends.
"""

from __future__ import annotations

import html
import io
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from common.reporting.phrasing import MINUS, IntervalJson

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.typing import RcKeyType

SERIES = 8
"""Number of line colours; further sites reuse them with other dashes."""

# Placeholder colours: all different, and none that matplotlib uses by itself.
INK, MUTED, GRID, ACCENT = "#010203", "#010204", "#010205", "#010206"
VARIABLES = {
    INK: "--ink",
    MUTED: "--muted",
    GRID: "--rule",
    ACCENT: "--accent",
    **{f"#0203{index:02x}": f"--series-{index}" for index in range(1, SERIES + 1)},
}
"""CSS variables of the placeholder colours."""
_DASHES: tuple[tuple[float, ...], ...] = ((), (5, 2), (1.5, 1.5))

# Metadata, a style that would apply to the whole page, ids that all figures share, and fonts.
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


class Drawing(Markup):
    """Figure of a page: its <svg> element, and beside it what was drawn.

    Attributes:
        name: prefix of its ids, unique on a page, and name of its files.
        figure: the figure in placeholder colours, for files in other formats.
    """

    name: str
    figure: Figure


def differences_figure(
    rows: Mapping[str, IntervalJson], metric: str, reference: str = "zero-shot"
) -> Drawing:
    """Draw relative differences with their intervals, one row each, the first on top.

    Args:
        rows: intervals of relative differences by label.
        metric: the metric's label.
        reference: name of the reference.
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
            "The tables below give the same numbers. Left of zero is better.",
        )


@contextmanager
def blank_figure(width: float, height: float) -> Iterator[tuple[Figure, Axes]]:
    """Create a figure with one pair of axes; width and height in inches."""
    # pyplot would keep state and look for a display.
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context(_STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        yield figure, figure.subplots()


def as_svg(figure: Figure, name: str, title: str, description: str) -> Drawing:
    """Return the figure as an <svg> element with a name and a description for screen readers."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    buffer = io.StringIO()
    # Ids are hashes with this salt; figures on one page must not share ids.
    with rc_context({"svg.hashsalt": f"fedvitals-{name}"}):
        # `figure.savefig` gives the same bytes and draws twice, once for the layout alone.
        canvas: Any = FigureCanvasSVG(figure)
        canvas.print_svg(buffer, metadata={"Date": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    for pattern in _NOT_FOR_THE_PAGE:
        text = pattern.sub("", text)
    for placeholder, variable in VARIABLES.items():
        text = text.replace(placeholder, f"var({variable})")
    head, body = text.split(">", 1)
    box = re.search(r'viewBox="[^"]+"', head)
    frame = box.group(0) if box else ""
    label = (
        f'<title id="{name}-title">{html.escape(title)}</title>'
        f'<desc id="{name}-text">{html.escape(description)}</desc>'
    )
    drawing = Drawing(
        f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'{frame} role="img" aria-labelledby="{name}-title {name}-text">{label}{body}'
    )
    drawing.name, drawing.figure = name, figure
    return drawing


def signed_per_cent(value: float, place: float) -> str:
    """Format an axis tick with its sign and a per cent sign."""
    return f"{signed_tick(value, place)} %"


def signed_tick(value: float, _place: float) -> str:
    """Format an axis tick with its sign, e.g. ``+2.5``; zero has none."""
    sign = "" if abs(value) < 1e-9 else (MINUS if value < 0 else "+")
    return f"{sign}{abs(value):.3g}"


def series_colour(place: int) -> str:
    """Return the placeholder of the line colour of site number `place`."""
    return f"#0203{place % SERIES + 1:02x}"


def series_dashes(place: int) -> tuple[float, ...]:
    """Return the dash pattern of site number `place`, in line widths; empty = solid."""
    return _DASHES[place // SERIES % len(_DASHES)]


def series_css(place: int) -> str:
    """Return the CSS of the line of site number `place`, for a legend."""
    dashes = " ".join(f"{2 * length:g}" for length in series_dashes(place))
    stroke = f"stroke: var(--series-{place % SERIES + 1}); stroke-width: 2"
    return f"{stroke}; stroke-dasharray: {dashes}" if dashes else stroke
