"""Sample of a hospital's file: its first rows, by column, as texts and as numbers."""

from __future__ import annotations

import re
from contextlib import closing
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from client.ingest.mapping.source_sections import FileFormat
from client.ingest.sources.file_kind import WORKBOOK, file_kind
from client.ingest.sources.open_file import open_file
from client.ingest.sources.source import HeaderRowError, Source
from client.ingest.sources.text.text_file import TextFile
from client.ingest.sources.workbooks.workbook import Workbook, sheets_with_cells
from common.errors import FedvitalsError, SourceError, UsageError

SAMPLE_ROWS = 500_000
"""Rows of a file that a suggestion is made from."""

_NUMBER_OR_DATE = re.compile(r"[-+]?[\d.,]+|\d{1,4}[./-]\d{1,2}[./-]\d{2,4}.*")
_FLOAT = r"^\s*[-+]?(\d+\.?\d*|\.\d+)\s*$"


class Sample:
    """The first rows of a file.

    Args:
        path: the file.
        form: its format, where a setting is known.

    Attributes:
        path: the file.
        source: the file as a source.
        rows: number of rows read.
        decimal: decimal sign of its texts.

    Raises:
        UsageError: the file's first line is no header.
        SourceError: the file cannot be read.
    """

    def __init__(self, path: Path, form: FileFormat) -> None:
        self.path = path
        self.source: Source = _open(path, form)
        self.columns: tuple[str, ...] = tuple(self.source.types)
        self._refuse_values_as_header()
        self._table = self._read()
        self.rows: int = self._table.num_rows
        self.decimal = "."

    def _refuse_values_as_header(self) -> None:
        like_values = sum(bool(_NUMBER_OR_DATE.fullmatch(name.strip())) for name in self.columns)
        if like_values > len(self.columns) / 3:
            # Without the texts, which may be a patient's.
            raise UsageError(
                f"{self.path}: {like_values} of {len(self.columns)} fields of the first line are "
                "numbers or dates, so it is no header; add a line with the columns' names, or set "
                "header-row"
            )

    def _read(self) -> pa.Table:
        batches, rows = [], 0
        names = list(self.columns)
        try:
            with closing(self.source.batches(names)) as parts:
                for batch in parts:
                    batches.append(batch)
                    rows += len(batch)
                    if rows >= SAMPLE_ROWS:
                        break
        except SourceError as error:
            raise SourceError(_without_values(error)) from None
        if not rows:
            raise SourceError(f"{self.path} has a header and no row; export the table again")
        return pa.Table.from_batches(batches)

    def texts(self, column: str) -> pa.Array:
        """Return a column as trimmed texts, null if empty."""
        array = self._table[column].combine_chunks()
        if pa.types.is_timestamp(array.type):
            array = pc.strftime(array, "%Y-%m-%d %H:%M:%S")
        elif pa.types.is_floating(array.type):
            whole = pc.all(pc.equal(array, pc.floor(array))).as_py()
            array = pc.cast(array, pa.int64()) if whole else array
        text = pc.utf8_trim_whitespace(pc.cast(array, pa.string()))
        return pc.if_else(pc.equal(text, ""), pa.scalar(None, pa.string()), text)

    def numbers(self, column: str) -> npt.NDArray[np.float64]:
        """Return a column as numbers, NaN where it has none."""
        text = self.texts(column)
        if self.decimal != ".":
            text = pc.replace_substring(text, ".", ";")
            text = pc.replace_substring(text, self.decimal, ".")
        plain = pc.if_else(pc.match_substring_regex(text, _FLOAT), text, None)
        return np.asarray(pc.cast(plain, pa.float64()).to_numpy(zero_copy_only=False))

    def counts(self, column: str) -> dict[str, int]:
        """Return the distinct texts of a column with their numbers of rows, the most first."""
        found = pc.value_counts(self.texts(column).drop_null())
        pairs = [(str(item["values"]), int(item["counts"])) for item in found.to_pylist()]
        return dict(sorted(pairs, key=lambda pair: (-pair[1], pair[0])))

    def is_date(self, column: str) -> bool:
        """Return whether the file itself has a column as dates."""
        return "TIMESTAMP" in self.source.types[column] or self.source.types[column] == "DATE"

    def file_lines(self) -> list[tuple[str, str, str]]:
        """Return the keys of `[file]`: key, value as TOML, comment."""
        return file_lines(self.source)


def _open(path: Path, form: FileFormat) -> Source:
    try:
        return open_file(path, form)
    except HeaderRowError as error:
        if form.header_row or not error.row:
            raise
        return open_file(path, form.model_copy(update={"header_row": error.row}))


def read_samples(path: Path) -> list[Sample]:
    """Return the samples of a file: one, or of a workbook one per sheet that is a table.

    Raises:
        UsageError: the file has no header.
        SourceError: the file cannot be read.
    """
    if file_kind(path).kind != WORKBOOK:
        return [Sample(path, FileFormat())]
    sheets = sheets_with_cells(path)
    found, problems = [], []
    for sheet in sheets:
        try:
            found.append(Sample(path, FileFormat(sheet=sheet)))
        except (UsageError, SourceError) as error:
            problems.append(error)
    if not found:
        raise problems[0] if problems else SourceError(f"{path} is a workbook without a cell")
    return found


def file_lines(source: Source) -> list[tuple[str, str, str]]:
    """Return what was found of a file's format: key, value, comment."""
    if isinstance(source, TextFile):
        lines: list[tuple[str, str, str]] = [
            ("delimiter", source.layout.delimiter, "found in the header"),
        ]
        if source.encoding not in ("utf-8", "utf-8-sig"):
            lines.append(("encoding", source.encoding, "found in the first bytes"))
        row = source.layout.header_row
        return lines if row == 1 else [*lines, ("header-row", str(row), "the first that is filled")]
    if isinstance(source, Workbook):
        lines = [("sheet", source.sheet, "the sheet with cells")]
        row = source.header_row
        return lines if row == 1 else [*lines, ("header-row", str(row), "the first that is filled")]
    return []


def _without_values(error: FedvitalsError) -> str:
    # pyarrow quotes the line that it cannot read.
    return re.sub(r"(got \d+|type \w+):.*", r"\1", str(error))
