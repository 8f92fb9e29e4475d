"""Table sources of an ingest: the interface, and its implementations for CSV and Parquet files.

A source is opened by its column names alone, then read once, part by part, by a DuckDB statement
that sees the part as the relation `source_rows`; memory is bounded by one part.
`client.ingest.query_source` implements the interface for database queries.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, ClassVar

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from client.ingest.duckdb_helpers import TEXT
from client.ingest.mapping_sections import FileFormat
from common.data.csv_stream import CsvStream
from common.errors import SourceError, UsageError
from common.files.hashing import ReadProgress, describe_file
from common.names import check_name

ROWS = "source_rows"
"""Relation of the part being loaded, in a statement given to `Source.load`."""

_CSV_SUFFIXES = (".csv", ".csv.gz", ".tsv", ".tsv.gz", ".txt", ".txt.gz")

RowFilter = tuple[str, Sequence[str], Callable[[pa.Array], None]]
"""A column (lower case), the texts of the rows to keep, and what is called with the others."""


def open_file(path: Path, form: FileFormat, progress: ReadProgress | None = None) -> Source:
    """Open a file by its suffix.

    Raises:
        UsageError: the suffix is not a known one.
        SourceError: the file is absent or damaged.
    """
    if not path.is_file():
        raise SourceError(f"there is no file {path}")
    name = path.name.lower()
    if name.endswith(".parquet"):
        return _ParquetFile(path)
    if name.endswith(_CSV_SUFFIXES):
        return _CsvFile(path, form, progress)
    raise UsageError(f"{path} is neither .parquet nor one of: {', '.join(_CSV_SUFFIXES)}")


class Source(ABC):
    """A hospital's table, read as Arrow batches.

    Attributes:
        fetch_rows: rows that a reader fetches at once.
        load_rows: rows per part: some tens of megabytes, so that the cost per statement is small.
        name: the table's name in messages.
        types: DuckDB type of each column, by lower-case name.
        rows: rows read so far.
    """

    fetch_rows: ClassVar[int] = 1 << 16
    load_rows: ClassVar[int] = 1 << 19
    name: str
    types: dict[str, str]
    rows: int = 0

    def load(
        self,
        connection: duckdb.DuckDBPyConnection,
        columns: Sequence[str],
        statement: str,
        only: RowFilter | None = None,
    ) -> None:
        """Run a statement that reads the given columns (lower case) from `ROWS`, part by part.

        Args:
            connection: where the statement is run.
            columns: the columns to read.
            statement: reads `ROWS`, once for each part; each row is in one part.
            only: rows whose trimmed column has none of the texts may be left out; `rows` counts
                them too.
        """
        held: list[pa.RecordBatch] = []
        with closing(self.batches(columns)) as batches:
            for batch in batches:
                self.rows += len(batch)
                held.append(batch if only is None else _kept(batch, only))
                if sum(map(len, held)) >= self.load_rows:
                    _execute(connection, held, statement)
                    held = []
        if held:
            _execute(connection, held, statement)

    @abstractmethod
    def batches(self, columns: Sequence[str]) -> Generator[pa.RecordBatch, None, None]:
        """Yield the rows of the given columns."""

    @abstractmethod
    def digest(self) -> dict[str, Any]:
        """Return name or query, size and digest of what was read, after `load`."""


def _execute(
    connection: duckdb.DuckDBPyConnection, batches: list[pa.RecordBatch], statement: str
) -> None:
    # Part by part: DuckDB keeps what a transaction writes in memory.
    connection.register(ROWS, pa.Table.from_batches(batches))
    try:
        connection.execute(statement)
    finally:
        connection.unregister(ROWS)


def _kept(batch: pa.RecordBatch, only: RowFilter) -> pa.RecordBatch:
    column, texts, tell = only
    if pa.types.is_floating(batch[column].type):
        # Arrow formats numbers differently from DuckDB.
        return batch
    codes = pc.utf8_trim(pc.cast(batch[column], pa.string()), characters=" ")
    is_known = pc.is_in(codes, value_set=pa.array(texts, pa.string()))
    tell(codes.filter(pc.invert(is_known)))
    return batch.filter(is_known)


class _ParquetFile(Source):
    def __init__(self, path: Path) -> None:
        self.name = path.name
        self._path = path
        try:
            schema = pq.read_schema(path)
        except (pa.ArrowInvalid, OSError) as error:
            raise self._unreadable(error) from error
        self._names = {name.lower(): name for name in schema.names}
        if len(self._names) < len(schema.names):
            raise UsageError(f"{path.name} has columns that differ only in upper and lower case")
        self.types = _duckdb_types(schema)

    def batches(self, columns: Sequence[str]) -> Generator[pa.RecordBatch, None, None]:
        own = [self._names[column] for column in columns]
        try:
            with pq.ParquetFile(self._path) as file:
                for batch in file.iter_batches(self.fetch_rows, columns=own):
                    # In the requested order, not the file's.
                    fields = [pc.cast(batch[name], _taken(batch[name].type)) for name in own]
                    yield pa.RecordBatch.from_arrays(fields, names=list(columns))
        except (pa.ArrowInvalid, OSError) as error:
            raise self._unreadable(error) from error

    def digest(self) -> dict[str, Any]:
        return describe_file(self._path)

    def _unreadable(self, error: Exception) -> SourceError:
        return SourceError(f"{self._path} cannot be read as Parquet: {first_line(error)}")


class _CsvFile(Source):
    def __init__(self, path: Path, form: FileFormat, progress: ReadProgress | None) -> None:
        self.name = path.name
        self._open: Callable[[Sequence[str]], CsvStream] = lambda columns: CsvStream(
            path,
            path.name,
            dict.fromkeys(columns, pa.string()),
            progress=progress,
            delimiter=form.delimiter,
            encoding=form.encoding,
        )
        self.types = dict.fromkeys((name.lower() for name in self._open([]).header), TEXT)
        self._digest: dict[str, Any] = {}

    def batches(self, columns: Sequence[str]) -> Generator[pa.RecordBatch, None, None]:
        stream = self._open(columns)
        yield from stream.batches()
        self._digest = stream.digest()

    def digest(self) -> dict[str, Any]:
        return self._digest


def _taken(kind: pa.DataType) -> pa.DataType:
    """Return the Arrow type to pass to DuckDB, which refuses two numeric ones."""
    if pa.types.is_float16(kind):
        return pa.float32()
    return pa.float64() if pa.types.is_decimal256(kind) else kind


def _duckdb_types(schema: pa.Schema) -> dict[str, str]:
    taken = pa.schema([(field.name, _taken(field.type)) for field in schema])
    with duckdb.connect() as connection:
        connection.register(ROWS, taken.empty_table())
        found = connection.execute(f"DESCRIBE SELECT * FROM {ROWS}").fetchall()
    return {str(row[0]).lower(): str(row[1]) for row in found}


def check_column(source: Source, column: str) -> str:
    """Return the lower-case name of a column that the mapping names.

    Raises:
        UsageError: the source has no such column; names the nearest and all existing ones.
    """
    return check_name(f"column of {source.name}", column.lower(), source.types)


def first_line(error: Exception) -> str:
    """Return the first line of a library's message."""
    return str(error).strip().split("\n", 1)[0]
