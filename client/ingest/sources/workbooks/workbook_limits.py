"""Limits of workbooks: a sheet is held in memory, from its first filled cell to its last one.

One stray cell in the last corner of a sheet makes it 17 thousand million cells, and a packed file
of a few megabytes may unpack to many gigabytes. calamine then ends the whole process, so both are
refused before it opens the file.
"""

from __future__ import annotations

import re
import zipfile
from pathlib import Path
from typing import IO

from client.ingest.sources.text.byte_streams import ZIP_ENTRY_ERRORS
from common.errors import SourceError

MOST_CELLS = 100_000_000
"""Cells from the first to the last filled one: about 3 GB of memory."""

_LARGE_BYTES = 1 << 30
_LARGE_RATIO = 100
"""Sheets of numbers and texts pack 5 to 30 times smaller."""

_SHEET = re.compile(r"xl/worksheets/[^/]+\.xml")
_DIMENSION = re.compile(rb'<dimension ref="([A-Z]{1,3})(\d{1,7})(?::([A-Z]{1,3})(\d{1,7}))?"')
# A cell with content; an empty one that has a format is closed at once.
_FILLED = re.compile(rb'<c\b[^>]*?\br="([A-Z]{1,3})(\d{1,7})"(?:[^>]*[^/>])?>')
_HEAD_BYTES = 1 << 12
_PART_BYTES = 1 << 20
_LONGEST_TAG = 1 << 9


def check_workbook_size(path: Path) -> None:
    """Refuse a workbook that cannot be held in memory; one that is no zip archive is not checked.

    Raises:
        SourceError: it unpacks to far more than a table does, or a sheet has a cell too far away.
    """
    try:
        with zipfile.ZipFile(path) as book:
            unpacked = sum(entry.file_size for entry in book.infolist())
            if unpacked > max(_LARGE_BYTES, _LARGE_RATIO * path.stat().st_size):
                raise SourceError(
                    f"{path} unpacks to {unpacked / 1e9:.1f} GB, over {_LARGE_RATIO} times its "
                    "size, which no table does; save it again, or as CSV"
                )
            for name in filter(_SHEET.fullmatch, book.namelist()):
                _check_sheet(path, book, name)
    except ZIP_ENTRY_ERRORS:
        # calamine says what is wrong with it.
        return


def _check_sheet(path: Path, book: zipfile.ZipFile, name: str) -> None:
    with book.open(name) as sheet:
        head = sheet.read(_HEAD_BYTES)
        found = _DIMENSION.search(head)
        if found and _is_small(found[1], found[2], found[3] or found[1], found[4] or found[2]):
            return
        rows, columns, last = _filled_extent(head, sheet)
    if rows * columns > MOST_CELLS:
        raise SourceError(
            f"{path} ({name}) has a cell far from the others, {last}: the sheet is {rows:,} rows "
            f"by {columns:,} columns, too many to read; delete the cells beside and below the "
            "table, or save it as CSV"
        )


def _is_small(left: bytes, top: bytes, right: bytes, bottom: bytes) -> bool:
    """Return whether a range is small enough."""
    rows = int(bottom) - int(top) + 1
    return rows * (_column(right) - _column(left) + 1) <= MOST_CELLS


def _filled_extent(head: bytes, sheet: IO[bytes]) -> tuple[int, int, str]:
    """Return the rows and columns of the filled cells, from the first cell on, and the last one."""
    rows, columns, last = 0, 0, ""
    text = head
    while True:
        for column, row in _FILLED.findall(text):
            place = _column(column)
            if int(row) > rows or place > columns:
                last = f"{column.decode()}{row.decode()}"
            rows, columns = max(rows, int(row)), max(columns, place)
        part = sheet.read(_PART_BYTES)
        if not part:
            return rows, columns, last
        # A tag may be cut by the end of a part.
        text = text[-_LONGEST_TAG:] + part


def _column(letters: bytes) -> int:
    number = 0
    for letter in letters:
        number = 26 * number + letter - ord("A") + 1
    return number
