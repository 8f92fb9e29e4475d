"""Tables of a MIMIC-III v1.4 folder: found, checked and loaded into DuckDB.

A table is TABLE.csv.gz, TABLE.parquet or TABLE.csv, its name and its header in upper or lower case.
Columns get the types of `schema.TABLE_COLUMNS`.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

import duckdb
import pyarrow as pa

from common.data.csv_stream import CsvStream
from common.data.parquet_stream import ParquetStream
from common.errors import SourceError, UsageError
from simulation.cohorts.mimic3.schema import TABLE_COLUMNS

# A .csv.gz comes first because it carries a checksum: a .csv beside it may be half unpacked.
_SUFFIXES = (".csv.gz", ".parquet", ".csv")
_STREAM = "source_stream"


class TableStream(Protocol):
    """Stream of the rows of a table's file."""

    schema: pa.Schema
    """Schema of the batches, with lower-case names."""

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Read the file once and yield its rows."""

    def digest(self) -> dict[str, Any]:
        """Return `file`, `bytes` and `sha256` of the file, after `batches` is exhausted."""


class MimicTables:
    """Context manager of a MIMIC-III folder and the DuckDB database with its loaded tables.

    The database is in a scratch folder of its own, so that memory is bounded even for tables of
    tens of millions of rows; the scratch folder is removed at the end of the context.

    Args:
        folder: the folder with the tables.
        memory_gb: bound on DuckDB's memory, in gigabytes.

    Attributes:
        connection: the open connection.

    Raises:
        SourceError: `folder` is not a folder.
        UsageError: `memory_gb` is not positive.
    """

    connection: duckdb.DuckDBPyConnection

    def __init__(self, folder: Path, *, memory_gb: float = 2.0) -> None:
        if not folder.is_dir():
            raise SourceError(f"there is no folder {folder}; give that of the MIMIC-III tables")
        if not memory_gb > 0:
            raise UsageError(f"the memory bound must be positive, got {memory_gb} GB")
        self.folder = folder
        self._names = {path.name: path for path in folder.iterdir()}
        self._loaded: dict[str, str | None] = {}
        self._digests: dict[str, dict[str, Any]] = {}
        self._scratch = Path(tempfile.mkdtemp(prefix="fedvitals-mimic3-"))
        self.connection = duckdb.connect(
            str(self._scratch / "mimic3.duckdb"),
            config={
                "memory_limit": f"{memory_gb}GB",
                "temp_directory": str(self._scratch / "spill"),
                # No query may depend on the order of rows in a file; dropping it saves memory.
                "preserve_insertion_order": False,
            },
        )

    def __enter__(self) -> MimicTables:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection and remove the scratch folder."""
        self.connection.close()
        shutil.rmtree(self._scratch, ignore_errors=True)

    def has(self, table: str) -> bool:
        """Return whether the folder has a file of the table (its name in upper case)."""
        return self._find(table) is not None

    def path(self, table: str, needed_for: str) -> Path:
        """Return the file of a table.

        Args:
            table: the table's name in upper case, e.g. ``ICUSTAYS``.
            needed_for: what needs the table, for the message.

        Raises:
            SourceError: there is none; names the table, what needs it and the files looked for.
        """
        found = self._find(table)
        if found is None:
            sought = ", ".join(f"{table}{suffix}" for suffix in _SUFFIXES)
            raise SourceError(
                f"{self.folder} holds no table {table}, needed for {needed_for}; looked for "
                f"{sought} (also in lower case)"
            )
        return found

    def load(self, table: str, needed_for: str, *, where: str | None = None) -> str:
        """Load a table into the database, once.

        Args:
            table: the table's name in upper case; any of `TABLE_COLUMNS` but CHARTEVENTS, which is
                streamed (see `chartevents.stream_chartevents`).
            needed_for: what needs the table, for messages.
            where: SQL condition on the typed columns of the rows to keep, for large tables, e.g.
                ``itemid IN (50885, 50912)``.

        Returns:
            The name of the DuckDB table: the table's own in lower case, its columns in lower case
            and of the types in `TABLE_COLUMNS`. The order of its rows is undefined.

        Raises:
            SourceError: the table or a column is missing, the file is damaged, or a field cannot
                be read as its type.
            ValueError: the table was loaded before with another `where`.
        """
        if table not in self._loaded:
            path = self.path(table, needed_for)
            stream: TableStream
            if path.suffix == ".parquet":
                stream = ParquetStream(path, table, dict.fromkeys(TABLE_COLUMNS[table]))
            else:
                text = dict.fromkeys(TABLE_COLUMNS[table], pa.string())
                stream = CsvStream(path, table, text, published=True)
            self.ingest(table, stream, where=where)
            self._loaded[table] = where
        elif self._loaded[table] != where:
            raise ValueError(f"{table} was loaded before with another condition")
        return table.lower()

    def ingest(self, table: str, stream: TableStream, *, where: str | None = None) -> None:
        """Create the DuckDB table of a source table from a stream, and record the file's digest.

        Args:
            table: the table's name in upper case.
            stream: its rows; each column is cast to its type in `TABLE_COLUMNS`.
            where: SQL condition on the typed columns of the rows to keep.

        Raises:
            SourceError: the stream raises it, or a field cannot be read as its type.
        """
        failure: list[SourceError] = []

        def guarded() -> Generator[pa.RecordBatch, None, None]:
            # DuckDB wraps an error of the stream in one of its own.
            try:
                yield from stream.batches()
            except SourceError as error:
                failure.append(error)
                raise

        batches = guarded()
        reader = pa.RecordBatchReader.from_batches(stream.schema, batches)
        self.connection.register(_STREAM, reader)
        try:
            self._create(table, stream.schema.names, where)
        except duckdb.Error as error:
            if failure:
                raise failure[0] from None
            raise self._not_loaded(table, error) from error
        finally:
            self.connection.unregister(_STREAM)
            batches.close()
        self._digests[table] = stream.digest()

    def digests(self) -> dict[str, dict[str, Any]]:
        """Return `file`, `bytes` and `sha256` of each table read so far, by table, sorted."""
        return dict(sorted(self._digests.items()))

    def _find(self, table: str) -> Path | None:
        names = [name + suffix for suffix in _SUFFIXES for name in (table, table.lower())]
        return next((self._names[name] for name in names if name in self._names), None)

    def _create(self, table: str, names: list[str], where: str | None) -> None:
        casts = ", ".join(
            f"CAST({name} AS {TABLE_COLUMNS[table][name]}) AS {name}" for name in names
        )
        condition = f" WHERE {where}" if where else ""
        self.connection.execute(
            f"CREATE OR REPLACE TABLE {table.lower()} AS "
            f"SELECT * FROM (SELECT {casts} FROM {_STREAM}){condition}"
        )

    def _not_loaded(self, table: str, error: duckdb.Error) -> Exception:
        # The first line of a conversion error has the column and the value.
        reason = str(error).split("\n", 1)[0]
        if isinstance(error, duckdb.ConversionException):
            reason = reason.removeprefix("Conversion Error: ")
            return SourceError(
                f"{table}: {self._find(table)} has a field that cannot be read: {reason}; "
                "fix the file"
            )
        if isinstance(error, duckdb.OutOfMemoryException | duckdb.IOException):
            return SourceError(
                f"{table}: {self._find(table)} cannot be loaded: {reason}; allow more memory, or "
                f"make room in {self._scratch.parent}"
            )
        return error
