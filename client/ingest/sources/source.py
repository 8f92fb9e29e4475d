"""Table source of an ingest: the interface that files and queries implement.

A source is opened by its column names alone, then read once, part by part, by a DuckDB statement
that sees the part as the relation `source_rows`; memory is bounded by one part.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from typing import Any, ClassVar

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from client.ingest.duckdb_helpers import TEXT
from common.errors import UsageError
from common.names import check_name

ROWS = "source_rows"
"""Relation of the part being loaded, in a statement given to `Source.load`."""

RowFilter = tuple[str, Sequence[str], Callable[[pa.Array], None]]
"""A column (lower case), the texts of the rows to keep, and what is called with the others."""


class HeaderRowError(UsageError):
    """The header is probably in another row than the first one.

    Attributes:
        row: the number of that row, from 1; 0 = unknown.
    """

    def __init__(self, message: str, row: int) -> None:
        super().__init__(message)
        self.row = row


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
    _constants: dict[str, str] | None = None

    @property
    def constants(self) -> dict[str, str]:
        """Columns that the file lacks, by lower-case name, with the one value that each has."""
        return self._constants or {}

    def add_constant(self, column: str, value: str) -> None:
        """Add a column that has the same text in each row.

        Raises:
            UsageError: the source has a column of that name.
        """
        if column.lower() in self.types:
            raise UsageError(f"{self.name} has a column {column}; give name-column another name")
        self._constants = {**self.constants, column.lower(): value}
        self.types = {**self.types, column.lower(): TEXT}

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
        added = [name for name in columns if name in self.constants]
        own = [name for name in columns if name not in self.constants]
        with closing(self.batches(own)) as batches:
            for batch in batches:
                self.rows += len(batch)
                for name in added:
                    value = pa.repeat(self.constants[name], len(batch))
                    batch = batch.append_column(name, value)
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


def check_column(source: Source, column: str) -> str:
    """Return the lower-case name of a column that the mapping names.

    Raises:
        UsageError: the source has no such column; names the nearest and all existing ones.
    """
    return check_name(f"column of {source.name}", column.lower(), source.types)


def first_line(error: Exception) -> str:
    """Return the first line of a library's message."""
    return str(error).strip().split("\n", 1)[0]
