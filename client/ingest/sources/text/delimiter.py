"""Header line and delimiter of a text file, found from its first lines."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from client.ingest.sources.source import HeaderRowError
from common.errors import SourceError, UsageError

DELIMITERS = (",", ";", "\t", "|")
NAMES = {",": "comma", ";": "semicolon", "\t": "tab", "|": "vertical bar", " ": "blank"}

_SAMPLE_RECORDS = 200
_MOST_HEADER_ROW = 50


@dataclass(frozen=True)
class Layout:
    """Delimiter and header line of a text file.

    Attributes:
        delimiter: character between two fields.
        header_row: number of the header line, from 1.
    """

    delimiter: str
    header_row: int


def find_layout(
    path: Path, text: str, delimiter: str, header_row: int, wanted: Sequence[str]
) -> Layout:
    """Return delimiter and header line of a text; given ones are checked against it.

    Args:
        path: the file, for messages.
        text: its start.
        delimiter: from the mapping; empty = to be found.
        header_row: from the mapping, from 1; 0 = the first line that is not blank.
        wanted: columns that the mapping names, which decide between two possible delimiters.

    Raises:
        UsageError: the delimiter is ambiguous or wrong, or the header line is another one.
        SourceError: the file has fewer lines than `header_row`, or what is no table.
    """
    try:
        return _find_layout(path, text, delimiter, header_row, wanted)
    except csv.Error as error:
        # A field of over 128 KiB, or a carriage return within a line.
        raise SourceError(
            f"{path} has no lines of a table at its start ({error}); export the table again"
        ) from error


def _find_layout(
    path: Path, text: str, delimiter: str, header_row: int, wanted: Sequence[str]
) -> Layout:
    lines = text.splitlines(keepends=True)
    if len(text) > 1 and len(lines) > 1 and not text.endswith(("\n", "\r")):
        lines.pop()  # may be cut
    if header_row > len(lines):
        raise SourceError(f"{path} has {len(lines)} lines; header-row is {header_row}")
    filled = next((n for n, line in enumerate(lines) if line.strip()), 0)
    first = header_row - 1 if header_row else filled
    found = _candidates(lines[first:], wanted)
    chosen = delimiter or _only(path, found, lines[first])
    if delimiter and delimiter not in found and len(_split(lines[first], delimiter)) == 1 and found:
        raise UsageError(
            f"{path}: the header has no {_name(delimiter)}, which the mapping gives as its "
            f"delimiter, but is cut by a {_name(found[0])}; correct or leave out delimiter"
        )
    if not header_row and (place := _later_header(lines, first, delimiter)):
        raise HeaderRowError(
            f"{path}: line {first + 1} is no header, line {place} looks like one; set "
            f"header-row = {place} in [file]",
            place,
        )
    return Layout(chosen, first + 1)


def _candidates(lines: list[str], wanted: Sequence[str]) -> list[str]:
    """Return the delimiters that cut the header and nearly all lines into equally many fields."""
    found = []
    for delimiter in DELIMITERS:
        header = _split(lines[0], delimiter)
        if len(header) > 1 and {name.lower() for name in wanted} <= {
            name.strip().lower() for name in header
        }:
            if wanted:
                return [delimiter]
            found.append(delimiter)
    return [one for one in found or _all_that_cut(lines) if _is_even(lines, one)] or found


def _all_that_cut(lines: list[str]) -> list[str]:
    return [one for one in DELIMITERS if len(_split(lines[0], one)) > 1]


def _is_even(lines: list[str], delimiter: str) -> bool:
    counts = Counter(
        len(row)
        for row in csv.reader(
            io.StringIO("".join(lines[: 4 * _SAMPLE_RECORDS])), delimiter=delimiter
        )
        if row
    )
    return counts[len(_split(lines[0], delimiter))] >= 0.95 * counts.total()


def _only(path: Path, found: list[str], header: str) -> str:
    cutting = found or _all_that_cut([header])
    if len(cutting) > 1:
        # Two delimiters in the header, and the mapping's columns do not decide.
        shown = " and ".join(_name(one) for one in cutting)
        raise UsageError(
            f"{path}: the header has {shown}, each of which may be the delimiter; set delimiter "
            "in [file], or in [stay] file for a table of stays"
        )
    return cutting[0] if cutting else ","


def _later_header(lines: list[str], first: int, delimiter: str) -> int:
    """Return the number of a line below that looks like the header of a table; 0 if none does."""
    options = (delimiter,) if delimiter else DELIMITERS
    if any(len(_split(lines[first], one)) > 1 for one in options):
        return 0
    for place in range(first + 1, min(len(lines) - 1, _MOST_HEADER_ROW)):
        for one in options:
            fields = _split(lines[place], one)
            if len(fields) > 2 and len(_split(lines[place + 1], one)) == len(fields):
                return place + 1
    return 0


def _split(line: str, delimiter: str) -> list[str]:
    return next(csv.reader([line.strip("\r\n")], delimiter=delimiter), [])


def _name(delimiter: str) -> str:
    return NAMES.get(delimiter, repr(delimiter))
