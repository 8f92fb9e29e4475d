"""Query of a DuckDB database, or of files through DuckDB, as a table source."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from client.ingest.duckdb_helpers import literal, quoted
from client.ingest.sources.queries.query_text import query_digest, refuse_twice, whole
from client.ingest.sources.source import Source, first_line
from common.errors import SourceError


class DuckdbQuery(Source):
    """A query of DuckDB; columns keep their types.

    Args:
        database: the database's file; empty = none, and the query reads files, as by
            `read_parquet`.
        query: a SELECT in DuckDB's SQL.
        folder: base of relative paths, those in the query included.

    Raises:
        UsageError: the query has a column twice.
        SourceError: the database cannot be opened, or refuses the query.
    """

    def __init__(self, database: str, query: str, folder: Path) -> None:
        self.name = "the query"
        self._query = whole(query)
        path = folder / database
        if database and not path.is_file():
            raise SourceError(f"there is no DuckDB database {path}")
        try:
            self._connection = duckdb.connect(
                str(path) if database else ":memory:",
                read_only=bool(database),
                config={
                    # Nothing is downloaded, and no extension of the user's is loaded.
                    "autoinstall_known_extensions": False,
                    "autoload_known_extensions": False,
                },
            )
            self._connection.execute("SET TimeZone = 'UTC'")
            self._connection.execute(f"SET file_search_path = {literal(str(folder.absolute()))}")
            rows = self._connection.execute(f"DESCRIBE {self._query}").fetchall()
        except duckdb.Error as error:
            raise self._failed(error) from error
        refuse_twice([str(row[0]) for row in rows])
        self.types = {str(row[0]).lower(): str(row[1]) for row in rows}

    def batches(self, columns: Sequence[str]) -> Generator[pa.RecordBatch, None, None]:
        """Yield the rows of the given columns."""
        chosen = ", ".join(map(quoted, columns))
        try:
            found = self._connection.sql(f"SELECT {chosen} FROM ({self._query})")
            reader = pa.RecordBatchReader.from_stream(found)
            for batch in reader:
                # By the names asked for; DuckDB gives those of the query.
                yield batch.rename_columns(list(columns))
        except (duckdb.Error, OSError) as error:
            raise self._failed(error) from error

    def digest(self) -> dict[str, Any]:
        """Return the query's digest and the rows read."""
        return query_digest(self._query, self.rows)

    def _failed(self, error: Exception) -> SourceError:
        return SourceError(f"DuckDB refuses the query: {first_line(error)}")
