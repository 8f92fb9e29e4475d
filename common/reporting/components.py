"""The building blocks of the page, and their rendering.

Text is plain text: everything is escaped when it is rendered, whoever sent it. Only `Markup` made
by our own code (figures, numbers with a span around them) goes through as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from jinja2 import DictLoader, Environment, StrictUndefined
from markupsafe import Markup

from common.reporting.phrasing import BETTER, WORSE, Interval, bounds, percent, verdict
from common.reporting.style import STYLE
from common.reporting.template import MACROS, PAGE

LONGEST_TEXT = 300
"""What came from a site is cut to this: no name or reason may fill the page."""


@dataclass(frozen=True)
class Row:
    """A row of a table: its header, with a unit, and its cells; `mean` sets it off."""

    label: str
    cells: Sequence[str]
    unit: str = ""
    mean: bool = False


@dataclass(frozen=True)
class Table:
    """A table; `text` for cells of words, which are set to the left and may break."""

    caption: str
    header: Sequence[str]
    rows: Sequence[Row]
    text: bool = False


@dataclass(frozen=True)
class Figure:
    """A figure with its title and what it shows."""

    title: str
    caption: str
    svg: Markup


@dataclass(frozen=True)
class Mark:
    """An entry of a legend: a piece of SVG in a box of 28 x 12, and what it stands for."""

    mark: Markup
    label: str


@dataclass(frozen=True)
class Bar:
    """A bar, its width in per cent of the longest; `ours` sets it off."""

    label: str
    width: float
    ours: bool = False


@dataclass(frozen=True)
class Stage:
    """A stage of a flow: what is left, of whom, by which rule, and what the rule took away."""

    left: str
    of: str
    rule: str
    out: str = ""


@dataclass(frozen=True)
class Tile:
    """A figure of the head of the page."""

    label: str
    value: str
    note: str


@dataclass(frozen=True)
class Part:
    """A part of a section; what is empty is left out. In the order in which it is shown."""

    heading: str = ""
    paragraphs: Sequence[str] = ()
    items: Sequence[str] = ()
    warnings: Sequence[str] = ()
    flow: Sequence[Stage] = ()
    legend: Sequence[Mark] = ()
    figures: Sequence[Figure] = ()
    small: bool = False
    bars: Sequence[Bar] = ()
    tables: Sequence[Table] = ()
    folded_title: str = ""
    folded: Sequence[Table] = ()
    code: str = ""
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Section:
    """A section; its id is the anchor of the page's index."""

    id: str
    title: str
    parts: Sequence[Part]


@dataclass(frozen=True)
class Page:
    """The whole report; `kicker` says above the title what kind of report it is."""

    title: str
    headline: str
    tiles: Sequence[Tile]
    sections: Sequence[Section]
    kicker: str = "report of a federated run"


def render_page(page: Page) -> str:
    """Return the page as HTML that needs nothing but itself."""
    environment = Environment(
        loader=DictLoader({"page": PAGE, "macros": MACROS, "style": STYLE}),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    text = environment.get_template("page").render(**vars(page))
    return text.lstrip()


def short(text: object, longest: int = LONGEST_TEXT) -> str:
    """Return text that came from outside as one printable line of bounded length."""
    line = " ".join("".join(c if c.isprintable() else " " for c in str(text)).split())
    return line if len(line) <= longest else line[: longest - 1] + "…"


def drawn(svg: str, *values: object) -> Markup:
    """Let SVG or HTML of our own through as it is; `values` are escaped and filled in."""
    markup = Markup(svg)  # noqa: S704  # constants and figures drawn from numbers
    return markup.format(*values) if values else markup


def difference(interval: Interval) -> Markup:
    """Return a relative difference with its interval, coloured where the interval allows it."""
    kind = verdict(interval)
    colour = kind if kind in (BETTER, WORSE) else ""
    return drawn(
        '<span class="{}">{}</span><span class="interval">{}</span>',
        colour,
        percent(interval.get("estimate")),
        bounds(interval),
    )
