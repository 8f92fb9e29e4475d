"""Where the rows come from, whatever holds them: read once, part by part, no more than a part held.

A source is opened by its column names alone; then each part stands as the relation `source_rows` of
a DuckDB statement that takes what it needs. `client.ingest.file_source` has the files,
`client.ingest.query_source` the queries.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from typing import Any, ClassVar

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from common.names import check_name

ROWS = "source_rows"

Progress = Callable[[int, int], None]
"""Called with the bytes read so far and their total."""

Only = tuple[str, Sequence[str]]
"""A column (lower case) and the texts that it may hold."""


class Source(ABC):
    """A table of the hospital, whose rows come as Arrow batches.

    Attributes:
        fetch_rows: rows that a reader takes at once.
        load_rows: rows a part: some tens of megabytes, in which the cost a statement is nothing.
        name: for messages.
        types: of each column, by its lower-case name, the DuckDB type.
        rows: how many were read; known after `load`.
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
        only: Only | None = None,
    ) -> None:
        """Run a statement that reads the given columns (lower case) from `ROWS`, part by part.

        Each row is in one part; `rows` counts all. Where `only` is given, rows whose column,
        without blanks around it, holds none of the texts may be kept from the statement.
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
        """Give the rows of the columns asked for."""

    @abstractmethod
    def digest(self) -> dict[str, Any]:
        """Say what was read, after `load`."""


def check_column(source: Source, column: str) -> str:
    """Return the lower-case name of a column that the mapping names.

    Raises:
        UsageError: where the source has no such column, naming the nearest and all there are.
    """
    return check_name(f"column of {source.name}", column.lower(), source.types)


def first_line(error: Exception) -> str:
    """Return the first line of another library's message."""
    return str(error).strip().split("\n", 1)[0]


def _execute(
    connection: duckdb.DuckDBPyConnection, batches: list[pa.RecordBatch], statement: str
) -> None:
    # Part by part, since DuckDB holds in memory what one transaction of everything would write.
    connection.register(ROWS, pa.Table.from_batches(batches))
    try:
        connection.execute(statement)
    finally:
        connection.unregister(ROWS)


def _kept(batch: pa.RecordBatch, only: Only) -> pa.RecordBatch:
    column, texts = only
    if pa.types.is_floating(batch[column].type):
        # Arrow writes numbers otherwise than DuckDB does.
        return batch
    codes = pc.utf8_trim(pc.cast(batch[column], pa.string()), characters=" ")
    return batch.filter(pc.is_in(codes, value_set=pa.array(texts, pa.string())))
