"""Parquet file as a table source; each column keeps its own type."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from client.ingest.sources.source import ROWS, Source, first_line
from common.errors import SourceError, UsageError
from common.files.hashing import describe_file

_ERRORS = (pa.ArrowException, ValueError, OSError)
"""What pyarrow raises on damaged files, UnicodeDecodeError in a column's name among them."""


class ParquetFile(Source):
    """A Parquet file.

    Args:
        path: the file.

    Raises:
        UsageError: two columns differ only in case.
        SourceError: the file is damaged.
    """

    def __init__(self, path: Path) -> None:
        self.name = path.name
        self._path = path
        try:
            schema = pq.read_schema(path)
        except _ERRORS as error:
            raise self._unreadable(error) from error
        self._names = {name.lower(): name for name in schema.names}
        if len(self._names) < len(schema.names):
            raise UsageError(f"{path.name} has columns that differ only in upper and lower case")
        self.types = _duckdb_types(schema)

    def batches(self, columns: Sequence[str]) -> Generator[pa.RecordBatch, None, None]:
        """Yield the rows of the given columns, in the order asked for."""
        own = [self._names[column] for column in columns]
        try:
            with pq.ParquetFile(self._path) as file:
                for batch in file.iter_batches(self.fetch_rows, columns=own):
                    # In the requested order, not the file's.
                    fields = [pc.cast(batch[name], _taken(batch[name].type)) for name in own]
                    yield pa.RecordBatch.from_arrays(fields, names=list(columns))
        except _ERRORS as error:
            raise self._unreadable(error) from error

    def digest(self) -> dict[str, Any]:
        """Return name, size and digest of the file."""
        return describe_file(self._path)

    def _unreadable(self, error: Exception) -> SourceError:
        return SourceError(f"{self._path} cannot be read as Parquet: {first_line(error)}")


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
