"""CSV for people: text that a spreadsheet would run as a formula is made inert.

A site's name, a care unit, a reason or a setting is text of someone else. A cell of it that begins
with ``=``, ``+``, ``-`` or ``@`` is a formula to Excel and LibreOffice, and may send the other
cells away. It gets an apostrophe, the spreadsheets' own mark of text.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable

_FORMULA = ("=", "+", "-", "@")


def inert_csv(rows: Iterable[Iterable[object]]) -> str:
    """Return rows as CSV with Unix line ends; texts as `inert_text`, other values as they are."""
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows(
        [inert_text(cell) if isinstance(cell, str) else cell for cell in row] for row in rows
    )
    return buffer.getvalue()


def inert_text(text: str) -> str:
    """Return text with an apostrophe before it if a spreadsheet could take it for a formula.

    A number with a sign stays as it is; tabs and carriage returns become spaces.
    """
    text = text.replace("\r", " ").replace("\t", " ")  # Python writes a CR without quotes
    if not text.lstrip().startswith(_FORMULA):
        return text
    try:
        float(text)
    except ValueError:
        return f"'{text}"
    return text
