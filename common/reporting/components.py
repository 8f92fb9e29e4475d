"""Building blocks of a report page, and their rendering to HTML.

All text is plain text and is escaped when rendered. Only `Markup` made by our own code (figures,
numbers in a span) is inserted unescaped.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from jinja2 import DictLoader, Environment, StrictUndefined
from markupsafe import Markup

from common.reporting.cells import NumberCell, relative, signed
from common.reporting.phrasing import BETTER, WORSE, IntervalJson, verdict
from common.reporting.style import STYLE
from common.reporting.svg import Drawing
from common.reporting.template import MACROS, PAGE


@dataclass(frozen=True)
class Row:
    """Table row: its header with a unit, and its cells; `mean` highlights, `indent` sets it in."""

    label: str
    cells: Sequence[str]
    unit: str = ""
    mean: bool = False
    indent: bool = False


@dataclass(frozen=True)
class Table:
    """Table; `text` for cells of words, which are aligned left and may wrap."""

    caption: str
    header: Sequence[str]
    rows: Sequence[Row]
    text: bool = False


@dataclass(frozen=True)
class Figure:
    """Figure with its title and caption."""

    title: str
    caption: str
    svg: Markup


@dataclass(frozen=True)
class LegendEntry:
    """Legend entry: a piece of SVG in a box of 28 x 12, and its label."""

    mark: Markup
    label: str


@dataclass(frozen=True)
class Bar:
    """Bar, its width in per cent of the longest; `ours` highlights it."""

    label: str
    width: float
    ours: bool = False


@dataclass(frozen=True)
class Stage:
    """Stage of an exclusion flow: what is left, of whom, by which rule, and what was excluded."""

    left: str
    of: str
    rule: str
    out: str = ""


@dataclass(frozen=True)
class Tile:
    """Key number at the head of the page."""

    label: str
    value: str
    note: str


@dataclass(frozen=True)
class Part:
    """Part of a section: its contents in display order; empty ones are left out."""

    heading: str = ""
    paragraphs: Sequence[str] = ()
    items: Sequence[str] = ()
    warnings: Sequence[str] = ()
    flow: Sequence[Stage] = ()
    legend: Sequence[LegendEntry] = ()
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
    """Section of a page; its id is the anchor for the page's index."""

    id: str
    title: str
    parts: Sequence[Part]


@dataclass(frozen=True)
class Page:
    """Whole report; `kicker` is the kind of report, shown above the title."""

    title: str
    headline: str
    tiles: Sequence[Tile]
    sections: Sequence[Section]
    kicker: str = "report of a federated run"


# It keeps the compiled templates.
_ENVIRONMENT = Environment(
    loader=DictLoader({"page": PAGE, "macros": MACROS, "style": STYLE}),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def render_page(page: Page) -> str:
    """Return the page as self-contained HTML."""
    return _ENVIRONMENT.get_template("page").render(**vars(page)).lstrip()


def raw_html(text: str, *values: object) -> Markup:
    """Mark our own SVG or HTML as safe to insert; `values` are escaped and filled in.

    A drawing stays one, so that an export can write it as a file.
    """
    if isinstance(text, Drawing):
        return text
    markup = Markup(text)  # noqa: S704  # constants and figures drawn from numbers
    return markup.format(*values) if values else markup


def with_interval(text: str, ends: str) -> Markup:
    """Return a value with its interval, which goes on a line of its own in a narrow column."""
    return raw_html('{} <span class="interval">{}</span>', text, ends)


def difference(interval: IntervalJson) -> NumberCell:
    """Return a relative difference with its interval, coloured if the interval excludes zero."""
    return relative(interval, _colour(interval))


def unit_difference(interval: IntervalJson, digits: int) -> NumberCell:
    """Return a difference in a vital's unit with its interval, coloured as `difference`.

    Args:
        interval: the difference, in the unit.
        digits: decimals; more are shown where an end of the interval would read as zero.
    """
    return signed(interval, digits, _colour(interval))


def _colour(interval: IntervalJson) -> str:
    kind = verdict(interval)
    return kind if kind in (BETTER, WORSE) else ""
