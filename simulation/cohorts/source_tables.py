"""Tables of a published data set's folder: found, checked and loaded into DuckDB.

A table is TABLE.csv.gz, TABLE.parquet or TABLE.csv; the case of its name and header is ignored.
A `TableLayout` gives the SQL type of each column that the cohort code reads. The digest of each
file read is compared with the published one, if the folder has SHA256SUMS.txt.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any

import duckdb
import pyarrow as pa

from common.data.streams.csv_stream import CsvStream, Keep
from common.data.streams.parquet_stream import ParquetStream
from common.errors import SourceError
from common.files.hashing import ReadProgress
from simulation.cohorts.files.published_folder import SUFFIXES, PublishedFolder
from simulation.cohorts.files.published_rows import RowCounts
from simulation.cohorts.files.scratch_database import ScratchDatabase
from simulation.cohorts.files.table_stream import TableStream

_STREAM = "source_stream"


@dataclass(frozen=True)
class TableLayout:
    """Tables of a published data set, as far as the cohort code reads them.

    Attributes:
        name: the data set, e.g. ``MIMIC-III``.
        columns: SQL type of each column read, in lower case, by table. All types are stated, none
            is guessed from a sample: an ICD code keeps its leading zeros.
        folders: subfolders with the tables, e.g. ``hosp`` and ``icu``; none = the folder itself.
        renamed: names of loaded columns that differ from the file's, by the file's, so that
            versions of a data set share their queries.
        missing: texts of a CSV file that, like an empty field, have no value.
    """

    name: str
    columns: Mapping[str, Mapping[str, str]]
    folders: tuple[str, ...] = ()
    renamed: Mapping[str, str] = field(default_factory=dict)
    missing: tuple[str, ...] = ()


class SourceTables:
    """Context manager of a source's folder and the DuckDB database with its loaded tables.

    The database is in a scratch folder of its own, so that memory is bounded even for tables of
    tens of millions of rows; the scratch folder is removed at the end of the context.

    Args:
        folder: the folder with the tables, or with the layout's subfolders.
        layout: the tables and their columns.
        memory_gb: bound on DuckDB's memory, in gigabytes.

    Attributes:
        connection: the open connection.
        scratch_folder: a folder for large files of a pass, removed at the end of the context.

    Raises:
        SourceError: `folder` is not a folder, or its SHA256SUMS.txt cannot be read.
        UsageError: `memory_gb` is not positive.
    """

    connection: duckdb.DuckDBPyConnection

    def __init__(self, folder: Path, layout: TableLayout, *, memory_gb: float = 2.0) -> None:
        self.folder = folder
        self.layout = layout
        self._published = PublishedFolder(folder, layout.folders, layout.name)
        self._row_counts = RowCounts(layout.name)
        self._loaded: dict[str, str | None] = {}
        self._digests: dict[str, dict[str, Any]] = {}
        self._scratch = ScratchDatabase(memory_gb)
        self.connection = self._scratch.connection
        self.scratch_folder = self._scratch.folder

    def __enter__(self) -> SourceTables:
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
        self._scratch.close()

    def has(self, table: str) -> bool:
        """Return whether the folder has a file of the table (its name in the layout)."""
        return self._published.find(table) is not None

    def path(self, table: str, needed_for: str) -> Path:
        """Return the file of a table.

        Args:
            table: the table's name in the layout, e.g. ``ICUSTAYS``.
            needed_for: what needs the table, for the message.

        Raises:
            SourceError: there is none; names the table, what needs it and the files looked for.
        """
        found = self._published.find(table)
        if found is None:
            sought = ", ".join(f"{table}{suffix}" for suffix in SUFFIXES)
            other = self._published.elsewhere(table)
            raise SourceError(
                f"{self.folder} holds no table {table}, needed for {needed_for}; looked for "
                f"{sought} (upper or lower case)" + (f"; {other} has it" if other else "")
            )
        return found

    def check_header(self, table: str, needed_for: str) -> None:
        """Check that a table is there with all columns of the layout; reads its header alone.

        Raises:
            SourceError: the table or a column is missing.
        """
        self._open(table, needed_for, list(self.layout.columns[table]))

    def require_rows(self, table: str, needed_for: str) -> None:
        """Refuse a table without a row; reads no more than its start.

        Raises:
            SourceError: the table or a column is missing, it has no row, or is damaged there.
        """
        batches = self._open(table, needed_for, list(self.layout.columns[table])).batches()
        try:
            if not any(len(batch) for batch in batches):
                raise SourceError(
                    f"{table}: {self.path(table, needed_for)} has no rows, which are needed for "
                    f"{needed_for}; download it again"
                )
        finally:
            batches.close()

    def load(self, table: str, needed_for: str, *, where: str | None = None) -> str:
        """Load a table into the database, once.

        Args:
            table: the table's name in the layout; `stream` is for tables too large to load whole.
            needed_for: what needs the table, for messages.
            where: SQL condition on the typed columns of the rows to keep, for large tables, e.g.
                ``itemid IN (50885, 50912)``.

        Returns:
            The name of the DuckDB table: the table's own in lower case, its columns in lower case,
            of the types and with the names in the layout. The order of its rows is undefined.

        Raises:
            SourceError: the table or a column is missing, the file is damaged, lacks rows or is not
                the published one, or a field cannot be read as its type.
            ValueError: the table was loaded before with another `where`.
        """
        if table not in self._loaded:
            stream = self._open(table, needed_for, list(self.layout.columns[table]))
            self._ingest(table, stream, stream.schema, self._typed(table, stream.schema, where))
            self._loaded[table] = where
        elif self._loaded[table] != where:
            raise ValueError(f"{table} was loaded before with another condition")
        return table.lower()

    def stream(
        self,
        table: str,
        needed_for: str,
        columns: Sequence[str],
        keys: Mapping[str, pa.DataType],
        keep: Keep,
        progress: ReadProgress | None = None,
        *,
        derived: pa.Schema | None = None,
    ) -> str:
        """Read a large table once and load the rows that a filter keeps, or rows derived from them.

        Args:
            table: the table's name in the layout.
            needed_for: what needs the table, for messages.
            columns: columns to load.
            keys: Arrow types of those of them that `keep` reads; the others are converted after
                the filter, by DuckDB.
            keep: filter of a batch's rows; called from several threads.
            progress: called with the bytes of the file read so far and its size.
            derived: schema of what `keep` returns, where that is other rows than the file's, e.g.
                sums; they are loaded as they are.

        Returns:
            The name of the DuckDB table, as of `load`; it replaces that of an earlier pass.

        Raises:
            SourceError: the table or a column is missing, the file is damaged, lacks rows or is not
                the published one, or a field of a kept row cannot be read.
        """
        stream = self._open(table, needed_for, columns, keys, keep, progress)
        if derived is None:
            self._ingest(table, stream, stream.schema, self._typed(table, stream.schema))
        else:
            self._ingest(table, stream, derived, f"SELECT * FROM {_STREAM}")
        return table.lower()

    def _open(
        self,
        table: str,
        needed_for: str,
        columns: Sequence[str],
        keys: Mapping[str, pa.DataType] = MappingProxyType({}),
        keep: Keep | None = None,
        progress: ReadProgress | None = None,
    ) -> TableStream:
        path = self.path(table, needed_for)
        if path.suffix == ".parquet":
            own = {name: keys.get(name) for name in columns}
            return ParquetStream(path, table, own, keep=keep, progress=progress)
        text = {name: keys.get(name, pa.string()) for name in columns}
        return CsvStream(path, table, text, keep=keep, progress=progress, published=True)

    def _ingest(self, table: str, stream: TableStream, schema: pa.Schema, query: str) -> None:
        """Create the DuckDB table of a source table, and record the file's digest.

        Args:
            table: the table's name in the layout.
            stream: of the file.
            schema: of the stream's batches after its filter.
            query: of the table's rows, from `_STREAM`.
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
        reader = pa.RecordBatchReader.from_batches(schema, batches)
        self.connection.register(_STREAM, reader)
        try:
            self.connection.execute(f"CREATE OR REPLACE TABLE {table.lower()} AS {query}")
        except duckdb.Error as error:
            if failure:
                raise failure[0] from None
            raise self._not_loaded(table, error) from error
        finally:
            self.connection.unregister(_STREAM)
            batches.close()
        digest = stream.digest()
        self._published.check_digest(self.path(table, "its digest"), digest["sha256"])
        self._digests[table] = digest
        if isinstance(stream, CsvStream):
            self._row_counts.check(table, self.path(table, "its rows"), stream.rows)

    def warnings(self) -> list[str]:
        """Return a line for each table read so far that may lack rows."""
        return self._row_counts.warnings()

    def digests(self) -> dict[str, dict[str, Any]]:
        """Return `file`, `bytes` and `sha256` of each table read so far, by table, sorted."""
        return dict(sorted(self._digests.items()))

    def _typed(self, table: str, schema: pa.Schema, where: str | None = None) -> str:
        """Return the query of a stream's rows with the types and names of the layout."""
        casts = ", ".join(
            f"CAST({self._value(column)} AS {self.layout.columns[table][column.name]}) "
            f"AS {self.layout.renamed.get(column.name, column.name)}"
            for column in schema
        )
        condition = f" WHERE {where}" if where else ""
        return f"SELECT * FROM (SELECT {casts} FROM {_STREAM}){condition}"

    def _value(self, column: pa.Field) -> str:
        value: str = column.name
        if pa.types.is_string(column.type):
            for text in self.layout.missing:
                value = f"nullif({value}, '{text}')"
        return value

    def _not_loaded(self, table: str, error: duckdb.Error) -> Exception:
        # The first line of a conversion error has the column and the value.
        reason = str(error).split("\n", 1)[0]
        path = self._published.find(table)
        if isinstance(error, duckdb.ConversionException):
            reason = reason.removeprefix("Conversion Error: ")
            return SourceError(
                f"{table}: {path} has a field that cannot be read: {reason}; fix the file"
            )
        if isinstance(error, duckdb.OutOfMemoryException | duckdb.IOException):
            return SourceError(
                f"{table}: {path} cannot be loaded: {reason}; allow more memory, or "
                f"make room in {self._scratch.folder.parent}"
            )
        return error
