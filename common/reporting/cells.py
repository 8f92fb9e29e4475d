"""Table cells that carry their numbers: text for a page, exact values for files.

A `NumberCell` is inserted into a page as it is, and written to CSV and LaTeX from its values, so
that no renderer reads a number back from text.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

from markupsafe import Markup

from common.reporting.phrasing import (
    NOTHING,
    UNKNOWN,
    IntervalJson,
    bounds,
    decimals_for,
    number,
    percent,
    signed_number,
    verdict,
)


class NumberCell(Markup):
    """Cell with a number: its HTML, and beside it the number.

    Attributes:
        value: the number at full precision; None where it is not defined.
        low: lower end of its 95 % interval; None without one.
        high: upper end.
        unit: unit of the three; empty if the row or the column names it.
        plain: the rounded number with its interval, as text.
    """

    value: float | None
    low: float | None
    high: float | None
    unit: str
    plain: str

    @classmethod
    def of(
        cls,
        html: Markup,
        plain: str,
        interval: Mapping[str, Any],
        *,
        unit: str = "",
        scale: float = 1.0,
    ) -> Self:
        """Return a cell from its HTML, its text, and its interval, which is multiplied by `scale`.

        Args:
            html: the cell on a page.
            plain: the same as text.
            interval: estimate, low and high, as `IntervalJson`.
            unit: unit of the scaled numbers.
            scale: factor, e.g. 100 from shares to per cent.
        """
        cell = cls(html)
        cell.value, cell.low, cell.high = (
            # A whole number stays one.
            interval.get(key)
            if scale == 1.0 or interval.get(key) is None
            else scale * interval[key]
            for key in ("estimate", "low", "high")
        )
        cell.unit, cell.plain = unit, plain
        return cell


def decimal(value: float | None, digits: int = 3) -> NumberCell:
    """Return a number, rounded on the page alone; a dash without one."""
    return shown_as(value, number(value, digits))


def shown_as(value: float | None, text: str, unit: str = "") -> NumberCell:
    """Return a number with its text, e.g. 148272 bytes as ``148.3 kB``.

    Args:
        value: the number.
        text: its text on the page.
        unit: unit of the number, for the column's name in a file.
    """
    return NumberCell.of(Markup.escape(text), text, {"estimate": value}, unit=unit)


def bracketed(interval: IntervalJson, digits: int = 3, *, scale: float = 1.0) -> NumberCell:
    """Return a number with its interval in brackets, e.g. ``4.10 [3.90, 4.30]``.

    Args:
        interval: the number and its interval.
        digits: decimals of all three.
        scale: factor, e.g. 100 from shares to per cent.
    """
    texts = [
        number(None if interval.get(key) is None else scale * interval[key], digits)
        for key in ("estimate", "low", "high")
    ]
    span = "" if NOTHING in texts[1:] else f"[{texts[1]}, {texts[2]}]"
    return _with_interval(texts[0], span, "", interval, scale=scale)


def relative(interval: IntervalJson, colour: str = "") -> NumberCell:
    """Return a relative difference in per cent with its interval.

    Args:
        interval: the difference as a share.
        colour: CSS class of the number; empty for none.
    """
    text = percent(interval.get("estimate"))
    return _with_interval(text, bounds(interval), colour, interval, unit="%", scale=100.0)


def signed(interval: IntervalJson, digits: int, colour: str = "") -> NumberCell:
    """Return a difference in a unit with its sign and interval, e.g. ``+0.30 [+0.09, +0.51]``.

    Args:
        interval: the difference and its interval.
        digits: decimals; more are shown where an end of the interval would read as zero.
        colour: CSS class of the number; empty for none.
    """
    digits = decimals_for(interval, digits)
    texts = [signed_number(interval.get(key), digits) for key in ("estimate", "low", "high")]
    span = "" if verdict(interval) == UNKNOWN else f"[{texts[1]}, {texts[2]}]"
    return _with_interval(texts[0], span, colour, interval)


def _with_interval(
    text: str,
    span: str,
    colour: str,
    interval: IntervalJson,
    *,
    unit: str = "",
    scale: float = 1.0,
) -> NumberCell:
    html = Markup('<span class="{}">{}</span> <span class="interval">{}</span>').format(
        colour, text, span
    )
    return NumberCell.of(html, f"{text} {span}".strip(), interval, unit=unit, scale=scale)
