"""Where the rows come from: a CSV or Parquet file, or a query of SQLite or PostgreSQL.

Each kind is opened by its column names alone, then read once, as the relation `source_rows` of a
DuckDB query that takes what it needs; rows are streamed, never held. A query runs in the database
itself, in the database's own SQL, within a read-only connection; every field comes as text.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from hashlib import file_digest, sha256
from pathlib import Path
from typing import Any, Protocol

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv

from client.ingest.sections import FileFormat, SqlSource
from client.ingest.sql import TEXT, literal, literals, only_row, quoted, text_of
from common.csv_stream import BLOCK_BYTES, CsvStream
from common.errors import SourceError, UsageError
from common.names import check_name

ROWS = "source_rows"
_FETCH_ROWS = 1 << 16
_CSV_SUFFIXES = (".csv", ".csv.gz", ".tsv", ".tsv.gz", ".txt", ".txt.gz")

Progress = Callable[[int, int], None]
"""Called with the bytes read so far and their total."""


Only = tuple[str, Sequence[str]]
"""A column (lower case) and the texts that it may hold."""


class Source(Protocol):
    """A table of the hospital.

    Attributes:
        name: for messages.
        types: of each column, by its lower-case name, the DuckDB type.
        rows: how many were read; known after `load`.
    """

    name: str
    types: dict[str, str]
    rows: int

    def load(
        self,
        connection: duckdb.DuckDBPyConnection,
        columns: Sequence[str],
        statement: str,
        only: Only | None = None,
    ) -> None:
        """Run a statement that reads the given columns (lower case) from `ROWS`, once.

        Where `only` is given, the statement meets the rows alone whose column, without blanks
        around it, holds one of the texts; `rows` counts all.
        """

    def digest(self) -> dict[str, Any]:
        """Say what was read, after `load`."""


def open_source(path: Path, form: FileFormat, progress: Progress | None = None) -> Source:
    """Open a file by its suffix.

    Raises:
        UsageError: where the suffix is of no kind that is read.
        SourceError: where the file is absent or damaged.
    """
    if not path.is_file():
        raise SourceError(f"there is no file {path}")
    name = path.name.lower()
    if name.endswith(".parquet"):
        return _ParquetFile(path)
    if name.endswith(_CSV_SUFFIXES):
        return _CsvFile(path, form, progress)
    raise UsageError(f"{path} is neither .parquet nor one of: {', '.join(_CSV_SUFFIXES)}")


def open_query(settings: SqlSource, query: str, folder: Path) -> Source:
    """Open a query of an attached database.

    Args:
        settings: which database.
        query: a SELECT in its own SQL.
        folder: what SQLite's path is relative to.

    Raises:
        SourceError: where the database cannot be reached or refuses the query.
    """
    if settings.attach == "sqlite":
        return _SqliteQuery(folder / settings.database, query)
    return _PostgresQuery(settings.database, query)


def check_column(source: Source, column: str) -> str:
    """Return the lower-case name of a column that the mapping names.

    Raises:
        UsageError: where the source has no such column, naming the nearest and all there are.
    """
    return check_name(f"column of {source.name}", column.lower(), source.types)


class _ParquetFile:
    def __init__(self, path: Path) -> None:
        self.name = path.name
        self.rows = 0
        self._path = path
        self._relation = f"read_parquet({literal(str(path))})"
        try:
            with duckdb.connect() as connection:
                found = connection.execute(f"DESCRIBE SELECT * FROM {self._relation}").fetchall()
        except duckdb.Error as error:
            raise self._unreadable(error) from error
        self.types = {str(row[0]).lower(): str(row[1]) for row in found}

    def load(
        self,
        connection: duckdb.DuckDBPyConnection,
        columns: Sequence[str],
        statement: str,
        only: Only | None = None,
    ) -> None:
        chosen = ", ".join(map(quoted, columns))
        rows = f"SELECT {chosen} FROM {self._relation}"
        if only is not None:
            column, texts = only
            rows += f" WHERE {text_of(column)} IN ({literals(texts)})"
        connection.execute(f"CREATE TEMP VIEW {ROWS} AS {rows}")
        try:
            (self.rows,) = only_row(connection, f"SELECT count(*) FROM {self._relation}")
            connection.execute(statement)
        except (duckdb.IOException, duckdb.InvalidInputException) as error:
            raise self._unreadable(error) from error
        finally:
            connection.execute(f"DROP VIEW {ROWS}")

    def digest(self) -> dict[str, Any]:
        with self._path.open("rb") as file:
            value = file_digest(file, "sha256").hexdigest()
        return {"file": self.name, "bytes": self._path.stat().st_size, "sha256": value}

    def _unreadable(self, error: Exception) -> SourceError:
        return SourceError(f"{self._path} cannot be read as Parquet: {_first_line(error)}")


class _Streamed:
    """A source whose rows come as Arrow batches of text."""

    name: str
    types: dict[str, str]
    rows: int

    def load(
        self,
        connection: duckdb.DuckDBPyConnection,
        columns: Sequence[str],
        statement: str,
        only: Only | None = None,
    ) -> None:
        failure: list[SourceError] = []

        def guarded() -> Generator[pa.RecordBatch, None, None]:
            # DuckDB would wrap an error of the stream in one of its own.
            try:
                for batch in self.batches(columns):
                    self.rows += len(batch)
                    yield batch if only is None else _kept(batch, only)
            except SourceError as error:
                failure.append(error)
                raise

        batches = guarded()
        schema = pa.schema([(column, pa.string()) for column in columns])
        connection.register(ROWS, pa.RecordBatchReader.from_batches(schema, batches))
        try:
            connection.execute(statement)
        except duckdb.Error:
            if failure:
                raise failure[0] from None
            raise
        finally:
            connection.unregister(ROWS)
            batches.close()

    def batches(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Give the rows of the columns asked for."""
        raise NotImplementedError


class _CsvFile(_Streamed):
    def __init__(self, path: Path, form: FileFormat, progress: Progress | None) -> None:
        self.name = path.name
        self.rows = 0
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

    def batches(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        stream = self._open(columns)
        yield from stream.batches()
        self._digest = stream.digest()

    def digest(self) -> dict[str, Any]:
        return self._digest


class _SqliteQuery(_Streamed):
    def __init__(self, path: Path, query: str) -> None:
        self.name = "the query"
        self.rows = 0
        self._path = path
        self._query = _whole(query)
        if not path.is_file():
            raise SourceError(f"there is no SQLite database {path}")
        with closing(self._connect()) as connection:
            cursor = self._execute(connection, f"SELECT * FROM (\n{self._query}\n) LIMIT 0")
            self.types = _text_types([column[0] for column in cursor.description])

    def batches(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        chosen = ", ".join(map(quoted, columns))
        with closing(self._connect()) as connection:
            cursor = self._execute(connection, f"SELECT {chosen} FROM (\n{self._query}\n)")
            try:
                while rows := cursor.fetchmany(_FETCH_ROWS):
                    yield _text_batch(columns, rows)
            except sqlite3.Error as error:
                raise self._failed(error) from error

    def digest(self) -> dict[str, Any]:
        return _query_digest(self._query, self.rows)

    def _connect(self) -> sqlite3.Connection:
        # DuckDB asks for the rows from threads of its own, one after the other.
        uri = f"{self._path.absolute().as_uri()}?mode=ro"
        return sqlite3.connect(uri, uri=True, check_same_thread=False)

    def _execute(self, connection: sqlite3.Connection, query: str) -> sqlite3.Cursor:
        try:
            return connection.execute(query)
        except (sqlite3.Error, sqlite3.Warning) as error:
            raise self._failed(error) from error

    def _failed(self, error: Exception) -> SourceError:
        return SourceError(f"SQLite refuses the query of {self._path}: {error}")


class _PostgresQuery(_Streamed):
    """A query of PostgreSQL, whose rows come as the CSV text of COPY: no field is guessed at."""

    def __init__(self, database: str, query: str) -> None:
        self.name = "the query"
        self.rows = 0
        self._database = database
        self._query = _whole(query)
        with self._connect() as connection:
            cursor = self._run(connection, f"SELECT * FROM (\n{self._query}\n) AS q LIMIT 0")
            self.types = _text_types([column.name for column in cursor.description])

    def batches(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        # The names of `types` are in lower case, which PostgreSQL's own quoting would take exactly.
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
        return _query_digest(self._query, self.rows)

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
                f"PostgreSQL cannot be reached: {_first_line(error)}; the password comes from the "
                "file that PGPASSFILE names, or from PGPASSWORD"
            ) from error
        return connection

    def _run(self, connection: Any, query: str) -> Any:
        try:
            return connection.execute(query)
        except _psycopg().Error as error:
            raise self._failed(error) from error

    def _failed(self, error: Exception) -> SourceError:
        return SourceError(f"PostgreSQL refuses the query: {_first_line(error)}")


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
    """Put the messages of COPY, a row each, together to blocks that are worth parsing."""
    rows: list[bytes] = []
    size = 0
    for row in copy:
        rows.append(bytes(row))
        size += len(row)
        if size >= BLOCK_BYTES:
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


def _kept(batch: pa.RecordBatch, only: Only) -> pa.RecordBatch:
    column, texts = only
    codes = pc.utf8_trim(batch[column], characters=" ")
    return batch.filter(pc.is_in(codes, value_set=pa.array(texts, pa.string())))


def _text_batch(columns: Sequence[str], rows: list[tuple[Any, ...]]) -> pa.RecordBatch:
    fields = [
        pa.array([None if value is None else str(value) for value in field], pa.string())
        for field in zip(*rows, strict=True)
    ]
    return pa.RecordBatch.from_arrays(fields, names=list(columns))


def _text_types(names: list[str]) -> dict[str, str]:
    lower = [name.lower() for name in names]
    twice = sorted({name for name in lower if lower.count(name) > 1})
    if twice:
        raise UsageError(f"the query gives the column {twice[0]!r} twice; name each with AS")
    return dict.fromkeys(lower, TEXT)


def _whole(query: str) -> str:
    return query.strip().rstrip(";").rstrip()


def _query_digest(query: str, rows: int) -> dict[str, Any]:
    return {"query_sha256": sha256(query.encode()).hexdigest(), "rows": rows}


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n", 1)[0]
