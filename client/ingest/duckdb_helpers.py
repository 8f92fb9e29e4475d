"""Names and texts of a hospital's table as parts of a query, and how a field becomes a number."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import duckdb

TEXT = "VARCHAR"


def quoted(name: str) -> str:
    """Return a column's name as an SQL identifier; DuckDB compares these without case."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """Return a text as an SQL literal."""
    return "'" + text.replace("'", "''") + "'"


def literals(texts: Iterable[str]) -> str:
    """Return texts as the inside of an SQL list."""
    return ", ".join(map(literal, texts))


def text_of(column: str) -> str:
    """Return the expression of a column as text without blanks around it; NULL where empty.

    A whole number has no point in it, also where a data frame made the column floating because a
    value was missing: the code 220045 is never `220045.0`.
    """
    name = quoted(column)
    text = f"trim(CAST({name} AS VARCHAR))"
    whole = f"regexp_replace({text}, '\\.0$', '')"
    return f"nullif(if(typeof({name}) IN ('DOUBLE', 'FLOAT'), {whole}, {text}), '')"


def number_of(column: str, kind: str, decimal: str) -> str:
    """Return the expression of a column as DOUBLE, NULL where it is no number.

    Args:
        column: its name.
        kind: its DuckDB type.
        decimal: the decimal sign of texts.
    """
    if kind == TEXT:
        text = text_of(column)
        if decimal != ".":
            # A point might then be a sign of thousands: such a text is no number.
            text = f"replace(replace({text}, '.', ';'), {literal(decimal)}, '.')"
        return f"TRY_CAST({text} AS DOUBLE)"
    if kind == "FLOAT":
        # By its shortest text: 36.6 in four bytes is then the 36.6 of a CSV file.
        return f"TRY_CAST(CAST({quoted(column)} AS VARCHAR) AS DOUBLE)"
    if kind == "BOOLEAN":
        return "NULL::DOUBLE"
    return f"TRY_CAST({quoted(column)} AS DOUBLE)"


def only_row(connection: duckdb.DuckDBPyConnection, query: str) -> tuple[Any, ...]:
    """Return the one row of a query that has exactly one, an aggregate without groups."""
    # All rows are fetched, since a result that is not at its end blocks the connection.
    (row,) = connection.execute(query).fetchall()
    return tuple(row)


def create_table(
    connection: duckdb.DuckDBPyConnection,
    name: str,
    columns: str,
    rows: Sequence[Sequence[Any]],
) -> None:
    """Create a small table in one statement: row by row, each would be synced to disk."""
    connection.execute(f"CREATE TABLE {name} ({columns})")
    places = ", ".join(f"({', '.join('?' * len(row))})" for row in rows)
    connection.execute(
        f"INSERT INTO {name} VALUES {places}", [value for row in rows for value in row]
    )
