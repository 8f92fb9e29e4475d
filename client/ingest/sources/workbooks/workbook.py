"""Sheet of an Excel or OpenDocument workbook as a table source, read by calamine.

calamine holds the sheet's cells in memory: about half a gigabyte for a full sheet of Excel, of
1,048,576 rows and six columns. Rows are converted part by part.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Generator, Iterator, Sequence
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa

from client.ingest.mapping.source_sections import FileFormat
from client.ingest.sources.source import HeaderRowError, Source, first_line
from client.ingest.sources.text.byte_streams import ZIP_ENTRY_ERRORS
from client.ingest.sources.workbooks.sheet_columns import Cell, ColumnKinds, column_array
from client.ingest.sources.workbooks.workbook_limits import check_workbook_size
from common.errors import SourceError, UsageError
from common.files.hashing import describe_file
from common.names import check_name

_MOST_HEADER_ROW = 50
_HEAD_BYTES = 1 << 20
_EPOCH_1900 = datetime(1899, 12, 30)  # noqa: DTZ001  (Excel's 1900 was a leap year)
_EPOCH_1904 = datetime(1904, 1, 1)  # noqa: DTZ001
_INSTALL = (
    "workbooks are read through python-calamine, which is not installed; run `pip install "
    "python-calamine`, or save the table as CSV"
)


class Workbook(Source):
    """A sheet of a workbook: .xlsx, .xlsm, .xlsb, .xls or .ods.

    Args:
        path: the file.
        form: its format in the mapping, with the sheet and the header's row.
        times: columns whose cells are times: plain numbers in them are Excel's days since 1900.

    Attributes:
        sheet: name of the sheet.
        header_row: number of the header's row, from 1.

    Raises:
        UsageError: sheet or header are ambiguous or absent.
        SourceError: the file is damaged or protected, calamine is not installed, or a column of
            times mixes dates and texts.
    """

    def __init__(self, path: Path, form: FileFormat, times: Sequence[str]) -> None:
        self.name = path.name
        self._path = path
        self._decimal = form.decimal
        book = _open(path)
        self.sheet, self._cells = _choose_sheet(path, book, form.sheet)
        self._epoch = _EPOCH_1904 if _is_1904(path) else _EPOCH_1900
        self.header_row, header = _header(self._where, self._rows(0), form.header_row)
        self._refuse_merged(is_given=form.header_row > 0)
        self._columns = {name.lower(): place for place, name in enumerate(header) if name}
        if len(self._columns) < sum(map(bool, header)):
            raise UsageError(f"{self._where}: a column's name is there twice; rename one")
        self.types = self._find_types({name.lower() for name in times})

    @property
    def _where(self) -> str:
        return f"{self._path}, sheet {self.sheet!r}"

    def batches(self, columns: Sequence[str]) -> Generator[pa.RecordBatch, None, None]:
        """Yield the rows of the given columns; blank rows are no rows."""
        for part in self._parts():
            fields = [
                column_array(
                    part[self._columns[name]], self.types[name], self._decimal, self._epoch
                )
                for name in columns
            ]
            yield pa.RecordBatch.from_arrays(fields, names=list(columns))

    def digest(self) -> dict[str, Any]:
        """Return name, size and digest of the file, and the sheet."""
        return {**describe_file(self._path), "sheet": self.sheet}

    def _rows(self, skipped: int) -> Iterator[list[Cell]]:
        return islice(self._cells.iter_rows(), skipped, None)

    def _parts(self) -> Iterator[list[tuple[Cell, ...]]]:
        """Yield the columns of some rows at a time."""
        rows = (row for row in self._rows(self.header_row) if any(cell != "" for cell in row))
        while part := list(islice(rows, self.fetch_rows)):
            yield list(zip(*part, strict=True))

    def _find_types(self, times: set[str]) -> dict[str, str]:
        kinds = {name: ColumnKinds() for name in self._columns}
        for part in self._parts():
            for name, place in self._columns.items():
                kinds[name].add(part[place])
        for name in sorted(times & kinds.keys()):
            found = kinds[name]
            if found.dates and found.date_texts:
                raise SourceError(
                    f"{self._where}: column {name} holds {found.dates:,} dates and "
                    f"{found.date_texts:,} texts like dates: a spreadsheet program has taken some "
                    "for dates, perhaps with day and month exchanged; export the table again, as "
                    "CSV or with this column as text"
                )
        return {name: found.duckdb_type(name in times) for name, found in kinds.items()}

    def _refuse_merged(self, *, is_given: bool) -> None:
        ranges = getattr(self._cells, "merged_cell_ranges", None) or []
        header = self.header_row - 1
        if not is_given and any(start[0] == header == end[0] for start, end in ranges):
            raise HeaderRowError(
                f"{self._where}: row {self.header_row} has merged cells, so that columns have no "
                f"name of their own; set header-row = {self.header_row + 1} in [file] if the names "
                "are in the row below it, or unmerge them",
                self.header_row + 1,
            )
        below = [(start, end) for start, end in ranges if end[0] > max(start[0], header)]
        if below:
            (row, column), (last, _) = below[0]
            raise SourceError(
                f"{self._where}: rows {row + 1} to {last + 1} of column {column + 1} are merged, "
                f"as are {len(below) - 1} other places; unmerge them and fill in each row, or "
                "export the table as CSV"
            )


def _open(path: Path) -> Any:
    try:
        import python_calamine
    except ImportError:
        raise SourceError(f"{path} is a workbook; {_INSTALL}") from None
    check_workbook_size(path)
    try:
        return python_calamine.CalamineWorkbook.from_path(str(path))
    except python_calamine.PasswordError:
        raise SourceError(
            f"{path} is protected by a password; save it without one, or as CSV"
        ) from None
    except (python_calamine.CalamineError, OSError) as error:
        raise SourceError(
            f"{path} cannot be read as a workbook: {first_line(error)}; save it again as .xlsx or "
            "CSV"
        ) from error


def sheets_with_cells(path: Path) -> list[str]:
    """Return the names of a workbook's sheets that have cells.

    Raises:
        SourceError: the file cannot be read as a workbook.
    """
    book = _open(path)
    return [name for name in _tables(book) if _sheet(path, book, name).start is not None]


def _tables(book: Any) -> list[str]:
    kinds = {one.name: str(one.typ) for one in book.sheets_metadata}
    return [name for name in book.sheet_names if "WorkSheet" in kinds.get(name, "WorkSheet")]


def _sheet(path: Path, book: Any, name: str) -> Any:
    import python_calamine

    try:
        return book.get_sheet_by_name(name)
    except (python_calamine.CalamineError, OSError) as error:
        raise SourceError(
            f"{path}: sheet {name!r} cannot be read: {first_line(error)}; save it again as .xlsx "
            "or CSV"
        ) from error


def _choose_sheet(path: Path, book: Any, wanted: str) -> tuple[str, Any]:
    names = _tables(book)
    if wanted:
        name = check_name(f"sheet of {path.name}", wanted, names)
        sheet = _sheet(path, book, name)
        if sheet.start is None:
            raise SourceError(f"{path}: sheet {name!r} is empty")
        return name, sheet
    found: tuple[str, Any] | None = None
    filled = []
    for name in names:
        sheet = _sheet(path, book, name)
        if sheet.start is not None:
            filled.append(name)
            found = found or (name, sheet)
    if found is None:
        raise SourceError(f"{path} is a workbook without a cell")
    if len(filled) > 1:
        raise UsageError(
            f"{path} has {len(filled)} sheets with cells: {', '.join(filled)}; set sheet in "
            "[file], or in [stay] file for a table of stays"
        )
    return found


def _header(where: str, rows: Iterator[list[Cell]], given: int) -> tuple[int, list[str]]:
    """Return number and names of the header's row.

    Raises:
        UsageError: too few cells of the row are names.
    """
    start = max(0, given - 1)
    first = [(number, row) for number, row in enumerate(islice(rows, _MOST_HEADER_ROW + start), 1)]
    filled = [(number, row) for number, row in first[start:] if any(cell != "" for cell in row)]
    if not filled or (given and filled[0][0] != given):
        raise UsageError(f"{where}: row {given} is blank; correct header-row")
    number, row = filled[0]
    named = _names_in(row)
    below = max((sum(cell != "" for cell in other) for _, other in filled[1:21]), default=0)
    if 2 * named < below or (named < 2 and below > 1):
        better = next((place for place, other in filled[1:] if 2 * _names_in(other) >= below), 0)
        hint = f"row {better} looks like one" if better else "no row below looks like one"
        raise HeaderRowError(
            f"{where}: row {number} is no header, {hint}; set header-row"
            f"{f' = {better}' if better else ''} in [file]",
            better,
        )
    return number, [" ".join(str(cell).split()) for cell in row]


def _names_in(row: list[Cell]) -> int:
    return sum(isinstance(cell, str) and bool(cell.strip()) for cell in row)


def _is_1904(path: Path) -> bool:
    """True for an .xlsx whose days are counted from 1904, as old versions for the Mac do."""
    try:
        with zipfile.ZipFile(path) as book, book.open("xl/workbook.xml") as file:
            properties = file.read(_HEAD_BYTES)
    except ZIP_ENTRY_ERRORS:
        return False
    return re.search(rb'date1904="(1|true)"', properties) is not None
