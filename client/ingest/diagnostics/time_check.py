"""Check of a column of times against the mapping's format, after the table was staged.

A format that reads no time, or that has day and month exchanged, stops the ingest: half of the
dates would be read, as other days. What cannot be proven is a sign for `client check`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import duckdb

from client.ingest.diagnostics.time_formats import ENOUGH, guess_formats
from client.ingest.duckdb_helpers import literals, only_row
from client.ingest.mapping.clock import EPOCH, EPOCHS, EXCEL, ISO, OFFSETS, Clock, swapped
from client.ingest.mapping.site_mapping import SiteMapping
from client.ingest.reshape.drop_reasons import reason
from common.errors import UsageError

FEW = 0.01
"""Share of times below which a wrong order of day and month is not looked for."""

_SAMPLE = 300


@dataclass(frozen=True)
class TimeColumn:
    """A column of times as it was read.

    Attributes:
        key: its format in the mapping, for messages.
        clock: format and zone.
        read: query of `at_us`, the times read, in microseconds.
        unread: query of `text`, the texts that are no time.
    """

    key: str
    clock: Clock
    read: str
    unread: str


def check_times(
    connection: duckdb.DuckDBPyConnection, mapping: SiteMapping
) -> list[dict[str, Any]]:
    """Check the times of the measurements in `staged`.

    Returns:
        Signs, as `check_time_column` gives them.

    Raises:
        UsageError: see `check_time_column`.
    """
    signs = check_time_column(
        connection,
        TimeColumn(
            "[time] format",
            mapping.time,
            "SELECT time_us AS at_us FROM staged WHERE time_us IS NOT NULL",
            f"SELECT note AS text FROM staged WHERE reason = {reason('no time')} "
            "AND note IS NOT NULL",
        ),
    )
    return signs + ([] if mapping.has_stay_table else check_bounds(connection, mapping, "staged"))


def check_bounds(
    connection: duckdb.DuckDBPyConnection, mapping: SiteMapping, table: str
) -> list[dict[str, Any]]:
    """Check the bounds of stays, columns `start_at`, `start_note`, `end_at`, `end_note` of a table.

    Raises:
        UsageError: see `check_time_column`.
    """
    signs = []
    key = "[stay] time, format" if mapping.stay.time else "[time] format"
    for name, column in (("start", mapping.stay.start), ("end", mapping.stay.end)):
        if column:
            signs += check_time_column(
                connection,
                TimeColumn(
                    f"{key} (column {column})",
                    mapping.stay_clock,
                    f"SELECT {name}_at AS at_us FROM {table} WHERE {name}_at IS NOT NULL",
                    f"SELECT {name}_note AS text FROM {table} WHERE {name}_note IS NOT NULL",
                ),
            )
    return signs


def check_time_column(
    connection: duckdb.DuckDBPyConnection, column: TimeColumn
) -> list[dict[str, Any]]:
    """Check a column of times.

    Returns:
        At most one sign: `key`; `kind`, `unread` (some texts are no time) or `order` (day and month
        may be exchanged); `count`, `of`, `example`, and `formats`, which would read them or are the
        two candidates.

    Raises:
        UsageError: the format reads no time, or day and month are exchanged or in both orders.
    """
    (count,) = only_row(connection, f"SELECT count(*) FROM ({column.unread})")
    (read,) = only_row(connection, f"SELECT count(*) FROM ({column.read})")
    texts = _sample(connection, column.unread) if count else []
    if count and not read:
        raise UsageError(_none_read(connection, column, count, texts))
    patterns = _exchangeable(connection, column, texts)
    if patterns:
        _refuse_exchanged(connection, column, patterns, count, count + read)
    if count:
        formats = guess_formats(connection, texts)
        sign = {"kind": "unread", "count": count, "of": count + read, "example": texts[0]}
        return [{"key": column.key, **sign, "formats": [list(one) for one in formats]}]
    if patterns and column.clock.format[0] != ISO and (found := _unproven(connection, column)):
        both = [list(column.clock.format), list(patterns)]
        sign = {"kind": "order", "count": read, "of": read, "example": found}
        return [{"key": column.key, **sign, "formats": both}]
    return []


def _exchangeable(
    connection: duckdb.DuckDBPyConnection, column: TimeColumn, texts: list[str]
) -> tuple[str, ...]:
    """Return the format with day and month exchanged; empty if it has no such other."""
    formats = column.clock.format
    if formats[0] in (EPOCH, EXCEL, *EPOCHS, *OFFSETS):
        return ()
    if formats[0] == ISO:
        guesses = guess_formats(connection, texts) if texts else ()
        return guesses[0] if guesses and guesses[0][0].startswith("%Y-%d-%m") else ()
    others = tuple(map(swapped, formats))
    return () if others == formats else others


def _refuse_exchanged(
    connection: duckdb.DuckDBPyConnection,
    column: TimeColumn,
    patterns: tuple[str, ...],
    unread: int,
    total: int,
) -> None:
    """Raise if the exchanged format reads texts that the mapping's own does not."""
    if unread <= FEW * total:
        return
    fits = f"try_strptime(text, [{literals(patterns)}]) IS NOT NULL"
    (others, example) = only_row(
        connection, f"SELECT count(*), min(text) FROM ({column.unread}) WHERE {fits}"
    )
    if others <= FEW * total or others < ENOUGH * unread:
        return
    given = " or ".join(map(repr, column.clock.format))
    other = " or ".join(map(repr, patterns))
    (own,) = only_row(
        connection, f"SELECT count(*) FROM ({column.read}) WHERE day(make_timestamp(at_us)) > 12"
    )
    if own:
        raise UsageError(
            f"{column.key}: the times have day and month in both orders: {example!r} and "
            f"{others:,} of {total:,} fit only {other}, {own:,} fit only {given}, and the rest "
            "cannot be read safely; export them in one order, e.g. as 2024-12-25"
        )
    shown = patterns[0] if len(patterns) == 1 else list(patterns)
    raise UsageError(
        f"{column.key} {given} cannot read {others:,} of {total:,} times, e.g. {example!r}, and no "
        f"day is above 12 among the others: day and month are exchanged; set format = "
        f"{_toml(shown)}"
    )


def _unproven(connection: duckdb.DuckDBPyConnection, column: TimeColumn) -> str:
    """Return a time whose day and month can be exchanged, if those of all times can; else empty."""
    late, first = only_row(
        connection,
        "SELECT count(*) FILTER (day(make_timestamp(at_us)) > 12), min(at_us) FILTER "
        "(day(make_timestamp(at_us)) <> month(make_timestamp(at_us))) "
        f"FROM ({column.read})",
    )
    if late or first is None:
        return ""
    return datetime.fromtimestamp(first / 1e6, UTC).strftime(column.clock.format[0])


def _none_read(
    connection: duckdb.DuckDBPyConnection, column: TimeColumn, count: int, texts: list[str]
) -> str:
    given = " or ".join(map(repr, column.clock.format))
    what = f"{column.key} {given} reads none of {count:,} times, e.g. {texts[0]!r}"
    guesses = guess_formats(connection, texts)
    if not guesses:
        return f"{what}; describe them by a pattern as %d.%m.%Y %H:%M"
    if len(guesses) == 1:
        shown = guesses[0][0] if len(guesses[0]) == 1 else list(guesses[0])
        return f"{what}; set format = {_toml(shown)}"
    return f"{what}; {either_order(texts, guesses[0][0], guesses[1][0])}"


def either_order(texts: list[str], first: str, second: str) -> str:
    """Return the words that ask for the order of day and month, with an example."""
    for text in texts:
        try:
            one, two = (datetime.strptime(text, form) for form in (first, second))  # noqa: DTZ007
        except ValueError:
            continue
        if one != two:
            return (
                f"is {text!r} {one.day} {one:%B}, format = {_toml(first)}, or {two.day} {two:%B}, "
                f"format = {_toml(second)}? Set the right one"
            )
    return f"set format = {_toml(first)} or {_toml(second)}, whichever is right"


def _toml(value: str | list[str]) -> str:
    return f'"{value}"' if isinstance(value, str) else f"[{', '.join(map(_toml, value))}]"


def _sample(connection: duckdb.DuckDBPyConnection, texts: str) -> list[str]:
    """Return distinct texts, the same in any order of the rows."""
    rows = connection.execute(
        f"SELECT DISTINCT text FROM ({texts}) ORDER BY hash(text), text LIMIT {_SAMPLE}"
    ).fetchall()
    return sorted(row[0] for row in rows)
