"""Types and Arrow arrays of a workbook's columns, whose cells have a type each.

A column of numbers, of dates or of booleans keeps that type; a mixed column becomes text, in which
a whole number has no decimal point and a date is ISO 8601.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from datetime import date, datetime, time, timedelta
from typing import Any

import pyarrow as pa

Cell = Any
"""str (empty for an empty cell), float, bool, datetime, date, time or timedelta."""

WHOLE, NUMBER, DATE, TEXT = "BIGINT", "DOUBLE", "TIMESTAMP", "VARCHAR"

_ARROW = {
    WHOLE: pa.int64(),
    NUMBER: pa.float64(),
    DATE: pa.timestamp("us"),
    TEXT: pa.string(),
}
_LARGEST_WHOLE = 2.0**53
_LOOKS_LIKE_DATE = re.compile(r"\s*\d{1,4}\s*[./-]\s*\d{1,2}\s*[./-]\s*\d{2,4}\b")
_FIRST_SERIAL, _LAST_SERIAL = 1.0, 146_463.0
"""The years 1900 to 2300 as Excel counts days."""


class ColumnKinds:
    """The kinds of cells that a column has."""

    def __init__(self) -> None:
        self.kinds: set[str] = set()
        self.dates = 0
        self.date_texts = 0
        self.others = 0

    def add(self, cells: Sequence[Cell]) -> None:
        """Count the cells of a part of the column."""
        for kind in set(map(type, cells)):
            if kind is str:
                texts = [cell for cell in cells if type(cell) is str and cell.strip()]
                self.others += len(texts)
                self.date_texts += sum(map(bool, map(_LOOKS_LIKE_DATE.match, texts)))
                self.kinds |= {TEXT} if texts else set()
            elif kind in (int, float):
                numbers = [cell for cell in cells if type(cell) is kind]
                self.others += len(numbers)
                self.kinds.add(WHOLE if all(map(_is_whole, numbers)) else NUMBER)
            elif kind in (datetime, date):
                self.dates += sum(type(cell) is kind for cell in cells)
                self.kinds.add(DATE)
            else:
                self.kinds.add(TEXT)

    def duckdb_type(self, is_time: bool) -> str:
        """Return the column's DuckDB type.

        Args:
            is_time: whether the mapping takes its cells as times: they are then dates, and what is
                not a date is NULL.
        """
        if is_time and (DATE in self.kinds or self.kinds <= {WHOLE, NUMBER}):
            return DATE
        if self.kinds <= {WHOLE}:
            return WHOLE if self.kinds else TEXT
        if self.kinds <= {WHOLE, NUMBER}:
            return NUMBER
        return DATE if self.kinds == {DATE} else TEXT


def _is_whole(number: float) -> bool:
    return float(number).is_integer() and abs(number) < _LARGEST_WHOLE


def column_array(cells: Sequence[Cell], kind: str, decimal: str, epoch: datetime) -> pa.Array:
    """Return a part of a column.

    Args:
        cells: its cells.
        kind: its type, from `ColumnKinds.duckdb_type`.
        decimal: decimal sign of numbers in a column of texts.
        epoch: day 0 of the workbook's serial dates.
    """
    if kind == DATE:
        values: list[Any] = [_moment(cell, epoch) for cell in cells]
    elif kind == WHOLE:
        values = [int(cell) if isinstance(cell, int | float) else None for cell in cells]
    elif kind == NUMBER:
        values = [float(cell) if isinstance(cell, int | float) else None for cell in cells]
    else:
        values = [_text(cell, decimal) for cell in cells]
    return pa.array(values, _ARROW[kind])


def _moment(cell: Cell, epoch: datetime) -> datetime | None:
    if isinstance(cell, datetime):
        return cell
    if isinstance(cell, date):
        return datetime(cell.year, cell.month, cell.day)  # noqa: DTZ001  (a local time)
    if type(cell) in (int, float) and _FIRST_SERIAL <= cell < _LAST_SERIAL:
        # A serial number holds a time of day to about a microsecond, not exactly.
        return epoch + timedelta(milliseconds=round(cell * 86_400_000))
    return None


def _text(cell: Cell, decimal: str) -> str | None:
    if isinstance(cell, str):
        return cell or None
    if isinstance(cell, bool):
        return str(cell).lower()
    if isinstance(cell, int | float):
        if math.isfinite(cell) and _is_whole(cell):
            return str(int(cell))
        return repr(float(cell)).replace(".", decimal)
    if isinstance(cell, datetime | date | time):
        return cell.isoformat()
    return str(cell)
