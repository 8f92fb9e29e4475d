"""Table of stays with the columns of other files, looked up by a key: one source of them all."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any

import duckdb
import pyarrow as pa

from client.ingest.duckdb_helpers import only_row, quoted, text_of
from client.ingest.sources.source import ROWS, Source, check_column
from common.errors import SourceError
from common.names import check_name

_SETTINGS: dict[str, str | bool | int | float | list[str]] = {
    # Nothing is downloaded, and no extension of the user's is loaded.
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
}


@dataclass(frozen=True)
class Lookup:
    """A file joined to a table.

    Attributes:
        source: the file.
        key: its column that is looked up.
        column: the column of the table, or of a file joined before, that holds the value.
    """

    source: Source
    key: str
    column: str


class JoinedTable(Source):
    """A table with the columns of other files; a column that several have is the first one's.

    Tables of stays are small: they are held in memory.

    Args:
        table: the table, whose rows stay what they are.
        lookups: the files joined to it, in this order.

    Raises:
        UsageError: a file lacks its key, or the column that is looked up is in none before it.
    """

    def __init__(self, table: Source, lookups: Sequence[Lookup]) -> None:
        self._parts = [table, *(one.source for one in lookups)]
        self._lookups = lookups
        self._place = dict.fromkeys(table.types, 0)
        self.types = dict(table.types)
        for place, one in enumerate(lookups, 1):
            check_name(f"column to look up in {one.source.name}", one.column.lower(), self.types)
            check_column(one.source, one.key)
            for name, kind in one.source.types.items():
                if name not in self.types:
                    self.types[name] = kind
                    self._place[name] = place
        self.name = " with ".join(part.name for part in self._parts)
        self._connection = duckdb.connect(config=_SETTINGS)
        self._connection.execute("SET TimeZone = 'UTC'")

    def batches(self, columns: Sequence[str]) -> Generator[pa.RecordBatch, None, None]:
        """Yield the rows of the given columns.

        Raises:
            SourceError: a key is in several rows that differ in these columns, or no value that is
                looked up is in a file.
        """
        wanted = list(columns) + [one.column.lower() for one in self._lookups]
        taken = [
            list(dict.fromkeys(name for name in wanted if self._place[name] == place))
            for place in range(len(self._parts))
        ]
        self._load(0, taken[0])
        # Columns need no qualifier: each is in one part only.
        joins = ""
        for place, one in enumerate(self._lookups, 1):
            self._load(place, list(dict.fromkeys([one.key.lower(), *taken[place]])))
            self._refuse_several(place, one, taken[place])
            joins += f" LEFT JOIN looked{place} ON {text_of(one.column)} = looked{place}.join_key"
            self._refuse_none_found(place, one, joins)
        shown = ", ".join(map(quoted, columns))
        found = self._connection.sql(f"SELECT {shown} FROM part0{joins}")
        reader = pa.RecordBatchReader.from_stream(found)
        yield from reader

    def digest(self) -> dict[str, Any]:
        """Return name, size and digest of the table, and of what was joined to it."""
        table, *joined = (part.digest() for part in self._parts)
        return {**table, "joined": joined}

    def looked_up(self, column: str, value: str) -> pa.Table | None:
        """Return each key of the file that is joined by a column, with one of its columns.

        Returns:
            Texts `key` and `value`, after `batches`; None if no file with that column is joined so.
        """
        place = self._place[value.lower()]
        if not place or self._lookups[place - 1].column.lower() != column.lower():
            return None
        query = f"SELECT join_key AS key, {text_of(value)} AS value FROM looked{place}"
        return pa.RecordBatchReader.from_stream(self._connection.sql(query)).read_all()

    def _load(self, place: int, columns: list[str]) -> None:
        part = self._parts[place]
        kinds = ", ".join(f"{quoted(name)} {part.types[name]}" for name in columns)
        self._connection.execute(f"CREATE OR REPLACE TABLE part{place} ({kinds})")
        part.load(
            self._connection, columns, f"INSERT INTO part{place} BY NAME SELECT * FROM {ROWS}"
        )

    def _refuse_several(self, place: int, one: Lookup, columns: list[str]) -> None:
        others = "".join(f", {quoted(name)}" for name in columns)
        self._connection.execute(
            f"CREATE OR REPLACE TABLE looked{place} AS SELECT DISTINCT {text_of(one.key)} AS "
            f"join_key{others} FROM part{place} WHERE {text_of(one.key)} IS NOT NULL"
        )
        (several,) = only_row(
            self._connection,
            f"SELECT count(*) FROM (SELECT join_key FROM looked{place} GROUP BY join_key "
            "HAVING count(*) > 1)",
        )
        if several:
            raise SourceError(
                f"{one.source.name} has {several:,} values of {one.key} in several rows that "
                f"differ in {' or '.join(columns)}; it is looked up by {one.key} in [stay] joins "
                "and needs one row for each"
            )

    def _refuse_none_found(self, place: int, one: Lookup, joins: str) -> None:
        given, found = only_row(
            self._connection,
            f"SELECT count({text_of(one.column)}), count(looked{place}.join_key) FROM part0{joins}",
        )
        if given and not found:
            raise SourceError(
                f"none of {given:,} values of {one.column} is in the column {one.key} of "
                f"{one.source.name}; compare both, or correct key and column in [stay] joins"
            )
