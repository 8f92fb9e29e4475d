"""Table source that is a query of SQLite or PostgreSQL, or of DuckDB (`duckdb_query`).

The query runs in the database, in its own SQL, on a read-only connection; every field of the first
two is read as text.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as pa_csv

from client.ingest.duckdb_helpers import TEXT, quoted
from client.ingest.mapping.source_sections import SqlSource
from client.ingest.sources.queries.duckdb_query import DuckdbQuery
from client.ingest.sources.queries.query_text import query_digest, refuse_twice, whole
from client.ingest.sources.source import Source, first_line
from common.data.streams.csv_stream import CSV_BLOCK_BYTES
from common.errors import SourceError


def open_query(settings: SqlSource, query: str, folder: Path) -> Source:
    """Open a query of an attached database.

    Args:
        settings: the database.
        query: a SELECT in the database's SQL.
        folder: base of a relative path of SQLite or DuckDB.

    Raises:
        SourceError: the database cannot be reached or refuses the query.
    """
    if settings.attach == "duckdb":
        return DuckdbQuery(settings.database, query, folder)
    if settings.attach == "sqlite":
        return _SqliteQuery(folder / settings.database, query)
    return _PostgresQuery(settings.database, query)


class _SqliteQuery(Source):
    def __init__(self, path: Path, query: str) -> None:
        self.name = "the query"
        self._path = path
        self._query = whole(query)
        if not path.is_file():
            raise SourceError(f"there is no SQLite database {path}")
        with closing(self._connect()) as connection:
            cursor = self._execute(connection, f"SELECT * FROM (\n{self._query}\n) LIMIT 0")
            self.types = _text_types([column[0] for column in cursor.description])

    def batches(self, columns: Sequence[str]) -> Generator[pa.RecordBatch, None, None]:
        chosen = ", ".join(map(quoted, columns))
        with closing(self._connect()) as connection:
            cursor = self._execute(connection, f"SELECT {chosen} FROM (\n{self._query}\n)")
            try:
                while rows := cursor.fetchmany(self.fetch_rows):
                    yield _text_batch(columns, rows)
            except sqlite3.Error as error:
                raise self._failed(error) from error

    def digest(self) -> dict[str, Any]:
        return query_digest(self._query, self.rows)

    def _connect(self) -> sqlite3.Connection:
        # DuckDB reads the rows from threads of its own, one after the other.
        uri = f"{self._path.absolute().as_uri()}?mode=ro"
        return sqlite3.connect(uri, uri=True, check_same_thread=False)

    def _execute(self, connection: sqlite3.Connection, query: str) -> sqlite3.Cursor:
        try:
            return connection.execute(query)
        except (sqlite3.Error, sqlite3.Warning) as error:
            raise self._failed(error) from error

    def _failed(self, error: Exception) -> SourceError:
        return SourceError(f"SQLite refuses the query of {self._path}: {error}")


class _PostgresQuery(Source):
    """A query of PostgreSQL, read as the CSV text of COPY: no type is guessed."""

    def __init__(self, database: str, query: str) -> None:
        self.name = "the query"
        self._database = database
        self._query = whole(query)
        with self._connect() as connection:
            cursor = self._run(connection, f"SELECT * FROM (\n{self._query}\n) AS q LIMIT 0")
            self.types = _text_types([column.name for column in cursor.description])

    def batches(self, columns: Sequence[str]) -> Generator[pa.RecordBatch, None, None]:
        # By position: `types` has lower-case names, and quoted names in PostgreSQL are exact.
        names = list(self.types)
        places = [names.index(column) for column in columns]
        psycopg = _psycopg()
        with self._connect() as connection:
            try:
                with connection.cursor().copy(
                    f"COPY (\n{self._query}\n) TO STDOUT (FORMAT csv)"
                ) as copy:
                    for block in _blocks(copy):
                        yield _parse_copy(block, names).select(places)
            except psycopg.Error as error:
                raise self._failed(error) from error

    def digest(self) -> dict[str, Any]:
        return query_digest(self._query, self.rows)

    def _connect(self) -> Any:
        psycopg = _psycopg()
        try:
            connection = psycopg.connect(self._database, application_name="fedvitals ingest")
            connection.read_only = True
            for setting in (
                "timezone = 'UTC'",
                "datestyle = 'ISO, YMD'",
                "client_encoding = 'UTF8'",
            ):
                connection.execute(f"SET {setting}")
        except psycopg.Error as error:
            raise SourceError(
                f"PostgreSQL cannot be reached: {first_line(error)}; the password comes from the "
                "file that PGPASSFILE names, or from PGPASSWORD"
            ) from error
        return connection

    def _run(self, connection: Any, query: str) -> Any:
        try:
            return connection.execute(query)
        except _psycopg().Error as error:
            raise self._failed(error) from error

    def _failed(self, error: Exception) -> SourceError:
        return SourceError(f"PostgreSQL refuses the query: {first_line(error)}")


def _psycopg() -> Any:
    try:
        import psycopg
    except ImportError:
        raise SourceError(
            "PostgreSQL is read through psycopg, which is not installed; run "
            "`pip install 'psycopg[binary]'`, or export the table to a file"
        ) from None
    return psycopg


def _blocks(copy: Any) -> Iterator[bytes]:
    """Join the messages of COPY, one per row, to blocks that are worth parsing."""
    rows: list[bytes] = []
    size = 0
    for row in copy:
        rows.append(bytes(row))
        size += len(row)
        if size >= CSV_BLOCK_BYTES:
            yield b"".join(rows)
            rows, size = [], 0
    if rows:
        yield b"".join(rows)


def _parse_copy(block: bytes, names: list[str]) -> pa.RecordBatch:
    table = pa_csv.read_csv(
        pa.BufferReader(block),
        read_options=pa_csv.ReadOptions(
            use_threads=False, block_size=len(block) + 1, column_names=names
        ),
        parse_options=pa_csv.ParseOptions(newlines_in_values=True),
        convert_options=pa_csv.ConvertOptions(
            column_types=dict.fromkeys(names, pa.string()),
            null_values=[""],
            strings_can_be_null=True,
            quoted_strings_can_be_null=True,
        ),
    )
    return table.combine_chunks().to_batches()[0]


def _text_batch(columns: Sequence[str], rows: list[tuple[Any, ...]]) -> pa.RecordBatch:
    fields = [
        pa.array([None if value is None else str(value) for value in field], pa.string())
        for field in zip(*rows, strict=True)
    ]
    return pa.RecordBatch.from_arrays(fields, names=list(columns))


def _text_types(names: list[str]) -> dict[str, str]:
    refuse_twice(names)
    return dict.fromkeys((name.lower() for name in names), TEXT)
