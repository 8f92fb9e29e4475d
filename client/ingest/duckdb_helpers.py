"""SQL for a hospital's table: quoted names and literals, fields as text or numbers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import duckdb

TEXT = "VARCHAR"


def quoted(name: str) -> str:
    """Return a column's name as an SQL identifier; DuckDB ignores their case."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """Return a text as an SQL literal."""
    return "'" + text.replace("'", "''") + "'"


def literals(texts: Iterable[str]) -> str:
    """Return texts as the inside of an SQL list."""
    return ", ".join(map(literal, texts))


def text_of(column: str) -> str:
    """Return the SQL of a column as trimmed text, NULL if empty.

    Whole numbers have no decimal point, even if a missing value made the column floating: the code
    220045 is never `220045.0`.
    """
    name = quoted(column)
    text = f"trim(CAST({name} AS VARCHAR))"
    whole = f"regexp_replace({text}, '\\.0$', '')"
    return f"nullif(if(typeof({name}) IN ('DOUBLE', 'FLOAT'), {whole}, {text}), '')"


def number_of(column: str, kind: str, decimal: str) -> str:
    """Return the SQL of a column as DOUBLE, NULL if not a number.

    Args:
        column: its name.
        kind: its DuckDB type.
        decimal: decimal separator of texts.
    """
    if kind == TEXT:
        return number_in(text_of(column), decimal)
    if kind == "FLOAT":
        # Through its shortest text, so that a four-byte 36.6 equals the 36.6 of a CSV file.
        return f"TRY_CAST(CAST({quoted(column)} AS VARCHAR) AS DOUBLE)"
    if kind == "BOOLEAN":
        return "NULL::DOUBLE"
    return f"TRY_CAST({quoted(column)} AS DOUBLE)"


def number_in(text: str, decimal: str) -> str:
    """Return the SQL of a text as DOUBLE, NULL if not a number.

    Args:
        text: SQL of the text.
        decimal: its decimal separator.
    """
    if decimal != ".":
        # A point may then be a thousands separator: such a text is not a number.
        text = f"replace(replace({text}, '.', ';'), {literal(decimal)}, '.')"
    return f"TRY_CAST({text} AS DOUBLE)"


def only_row(connection: duckdb.DuckDBPyConnection, query: str) -> tuple[Any, ...]:
    """Return the one row of a query that has exactly one, an aggregate without groups."""
    # All rows are fetched: an unfinished result blocks the connection.
    (row,) = connection.execute(query).fetchall()
    return tuple(row)


def create_table(
    connection: duckdb.DuckDBPyConnection,
    name: str,
    columns: str,
    rows: Sequence[Sequence[Any]],
) -> None:
    """Create a small table in one statement; row by row, each would be synced to disk."""
    connection.execute(f"CREATE TABLE {name} ({columns})")
    places = ", ".join(f"({', '.join('?' * len(row))})" for row in rows)
    connection.execute(
        f"INSERT INTO {name} VALUES {places}", [value for row in rows for value in row]
    )
