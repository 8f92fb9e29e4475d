"""Figures of a report as SVG and PDF files, from the drawing that the page shows.

The placeholder colours become those of the light scheme, and the page's legend is drawn below the
figure. Both formats are vector graphics; the fonts are embedded in the PDF. Neither has a date or a
random id, so equal figures give equal bytes.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Sequence
from textwrap import fill
from typing import TYPE_CHECKING, Any

from common.reporting.components import LegendEntry
from common.reporting.style import STYLE
from common.reporting.svg import VARIABLES, Drawing

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.figure import Figure
    from matplotlib.typing import RcKeyType

_ROW_INCHES = 0.22
_CHARACTERS_AN_INCH = 12
_COLOURS = ("color", "facecolor", "edgecolor", "markerfacecolor", "markeredgecolor")


def figure_files(drawing: Drawing, legend: Sequence[LegendEntry] = ()) -> dict[str, bytes]:
    """Return a figure's files by format.

    Args:
        drawing: the figure; it is changed, so that a page is rendered before.
        legend: entries of the page's legend, drawn below the figure.

    Returns:
        The bytes of ``svg`` and ``pdf``.
    """
    from matplotlib import rc_context

    figure = drawing.figure
    # The page's drawing has made the ticks, in placeholder colours too.
    scheme = light_scheme()
    placeholders = {_rgb(hex_): scheme[name] for hex_, name in VARIABLES.items()}
    for artist in figure.findobj():
        _recolour(artist, placeholders)
    if legend:
        _add_legend(figure, legend, scheme)
    figure.set_facecolor("white")
    settings: dict[RcKeyType, Any] = {
        "svg.hashsalt": f"fedvitals-{drawing.name}",
        "svg.fonttype": "none",
        # TrueType: journals refuse the Type 3 fonts of the default.
        "pdf.fonttype": 42,
    }
    undated = {
        "svg": {"Date": None, "Creator": None},
        "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
    }
    files = {}
    with rc_context(settings):
        for kind, metadata in undated.items():
            buffer = io.BytesIO()
            figure.savefig(buffer, format=kind, metadata=metadata)
            files[kind] = buffer.getvalue()
            figure.set_layout_engine("none")  # both files have one layout, computed once
    return files


def light_scheme() -> dict[str, str]:
    """Return the colours of the page's light scheme by their CSS variables."""
    scheme = STYLE[: STYLE.index("@media")]
    return dict(re.findall(r"(--[\w-]+): (#\w+)", scheme))


def _rgb(colour: object) -> tuple[int, ...]:
    from matplotlib.colors import to_rgb

    return tuple(round(255 * part) for part in to_rgb(colour))  # type: ignore[arg-type]


def _recolour(artist: Artist, placeholders: dict[tuple[int, ...], str]) -> None:
    from matplotlib.colors import to_rgba, to_rgba_array

    for name in _COLOURS:
        getter = getattr(artist, f"get_{name}", None)
        setter = getattr(artist, f"set_{name}", None)
        if getter is None or setter is None:
            continue
        given = getter()
        if given is None or (isinstance(given, str) and given in ("none", "auto")):
            continue
        rows = to_rgba_array(given)
        mapped = [
            to_rgba(placeholders[rgb], row[3]) if (rgb := _rgb(row[:3])) in placeholders else row
            for row in rows
        ]
        if any(rgb in placeholders for rgb in map(_rgb, (row[:3] for row in rows))):
            setter(mapped if len(mapped) > 1 else mapped[0])


def _add_legend(figure: Figure, legend: Sequence[LegendEntry], scheme: dict[str, str]) -> None:
    from matplotlib.legend_handler import HandlerTuple

    width, height = figure.get_size_inches()
    labels = [fill(entry.label, round(_CHARACTERS_AN_INCH * width)) for entry in legend]
    rows = sum(label.count("\n") + 1 for label in labels)
    figure.set_size_inches(width, height + _ROW_INCHES * (rows + 1))
    figure.legend(
        handles=[tuple(_marks(str(entry.mark), scheme)) for entry in legend],
        labels=labels,
        handler_map={tuple: HandlerTuple()},
        loc="outside lower left",
        frameon=False,
        fontsize=9,
        labelcolor=scheme["--ink"],
    )


def _marks(svg: str, scheme: dict[str, str]) -> Iterator[Artist]:
    """Yield the artists of a legend's mark: its lines, dots and bands, in their order."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    for kind, attributes in re.findall(r"<(line|circle|rect|path)\b([^>]*)/?>", svg):
        found = re.search(r"var\((--[\w-]+)\)", attributes)
        colour = scheme[found.group(1)] if found else scheme["--ink"]
        if kind == "circle":
            yield Line2D([], [], color="none", marker="o", markersize=5, markerfacecolor=colour,
                         markeredgecolor=colour)  # fmt: skip
        elif kind == "rect":
            opacity = re.search(r"opacity: ([\d.]+)", attributes)
            yield Patch(color=colour, alpha=float(opacity.group(1)) if opacity else 1.0, lw=0)
        else:
            dashes = re.search(r"stroke-dasharray: ([\d. ]+)", attributes)
            stroke = re.search(r"stroke-width: ([\d.]+)", attributes)
            line = Line2D([], [], color=colour, lw=float(stroke.group(1)) if stroke else 1.0)
            if dashes and (pattern := [float(part) / 2 for part in dashes.group(1).split()]):
                line.set_linestyle((0, pattern))
            yield line
