"""Conversion of a hospital's times to microseconds of UTC, with daylight-saving folds and gaps.

A local time without an offset is read by the zone's rules: `zone_rows` lists them as intervals of
local time with one offset each, which a join finds for any number of rows. When clocks are put back
an hour occurs twice (a fold), when they are put forward an hour does not exist (a gap). The mapping
sets how such times are read; by default they are dropped and counted.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import duckdb
import pandas as pd

from client.ingest.duckdb_helpers import TEXT, literal, literals, only_row, quoted, text_of
from client.ingest.mapping.clock import EPOCH, EPOCHS, EXCEL, ISO, OFFSETS, Clock
from common.errors import UsageError

FIRST_YEAR, LAST_YEAR = 1900, 2300
"""Times outside these years, in UTC, count as unreadable. MIMIC's shifted dates are inside."""

EPOCH_LIMIT = 1.05e10
"""Numbers below this are seconds since 1970, below a thousand times this milliseconds, and so on:
the year 2302 in seconds, and May 1970 in milliseconds."""

EXCEL_DAYS = 25569
"""Excel's serial day of 1970-01-01."""

UTC_ZONE = "UTC"
FOLD, GAP = 1, 2

_DAY_MS = 86_400_000
_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001  (local times have no zone of their own)
# After a time, so that the day of a date is none.
_OFFSET_AT_END = r"[T :]\d{2}(\.\d+)?\s*(Z|z|UTC|GMT|[+-]\d{2}(:?\d{2})?)(\[[A-Za-z0-9_/+-]+\])?$"


@dataclass(frozen=True)
class TimeSql:
    """SQL expressions of a time.

    Attributes:
        at: microseconds since 1970 on its own clock, NULL if unreadable.
        is_utc: condition that this clock is UTC.
    """

    at: str
    is_utc: str


def time_of(column: str, kind: str, clock: Clock) -> TimeSql:
    """Return the expressions that read a column of times.

    Args:
        column: its name.
        kind: its DuckDB type.
        clock: format and zone of the mapping.

    Raises:
        UsageError: type and format do not match.
    """
    is_utc = "true" if clock.zone == UTC_ZONE else "false"
    first = clock.format[0]
    name = quoted(column)
    if kind == "TIMESTAMP WITH TIME ZONE":
        return TimeSql(_bounded(f"epoch_us({name})"), "true")
    if kind.startswith("TIMESTAMP") or kind == "DATE":
        return TimeSql(_bounded(f"epoch_us(CAST({name} AS TIMESTAMP))"), is_utc)
    number = f"TRY_CAST({name} AS DOUBLE)"
    if first in OFFSETS:
        return TimeSql(_bounded(f"TRY_CAST(round({number} * {OFFSETS[first]}) AS BIGINT)"), "true")
    if first == EPOCH:
        return TimeSql(_bounded(_epoch_by_size(number)), "true")
    if first == EXCEL:
        # A serial day is a local time. To the millisecond, which is what its fraction resolves.
        at = f"round(({number} - {EXCEL_DAYS}) * {_DAY_MS}) * 1000"
        return TimeSql(_bounded(f"TRY_CAST({at} AS BIGINT)"), is_utc)
    if first in EPOCHS:
        return TimeSql(_bounded(f"TRY_CAST(round({number} * {EPOCHS[first]}) AS BIGINT)"), "true")
    if kind != TEXT:
        raise UsageError(
            f"column {column} holds numbers of type {kind}, [time] format says {first!r}; set "
            f"format to {EPOCH!r} (a number since 1970, its unit by its size) or one of: "
            f"{', '.join((*EPOCHS, EXCEL))}"
        )
    if first == ISO:
        if is_utc == "false":
            is_utc = f"regexp_matches({text_of(column)}, '{_OFFSET_AT_END}')"
        return TimeSql(_bounded(_iso(text_of(column), clock.zone)), is_utc)
    return _of_patterns(text_of(column), clock, is_utc)


def _iso(text: str, zone: str) -> str:
    """Return the SQL of the microseconds of an ISO text, on its own clock.

    A text may end in the clock's own zone, by which it is local, or have a zone in brackets after
    its offset, as Java writes it. Any other zone's name makes it unreadable: three letters as BST
    have several meanings.
    """
    # Never as TIMESTAMP, which ignores the offset of a text.
    plain = f"TRY_CAST({text} AS TIMESTAMPTZ)"
    spaced = f"TRY_CAST(regexp_replace({text}, '\\s+([+-][0-9:]+)$', '\\1') AS TIMESTAMPTZ)"
    own = literal(rf"\s*\[?{re.escape(zone)}\]?$")
    bare = rf"regexp_replace({text}, '([+-]\d\d:?\d\d|Z)\[[A-Za-z0-9_/+-]+\]$', '\1')"
    bare = rf"regexp_replace({bare}, {own}, '')"
    bare = rf"regexp_replace({bare}, '\s*(Z|z|UTC|GMT)$', 'Z')"
    # Another zone's name ends in a letter or a bracket even then.
    named = f"CASE WHEN regexp_matches({bare}, '[0-9]Z?$') THEN TRY_CAST({bare} AS TIMESTAMPTZ) END"
    # The usual text is read without the expressions above.
    utc = literals(f"{digit}Z" for digit in range(10))
    return (
        f"epoch_us(CASE WHEN right({text}, 1) BETWEEN '0' AND '9' THEN coalesce({plain}, {spaced}) "
        f"WHEN right({text}, 2) IN ({utc}) THEN {plain} "
        f"ELSE {named} END)"
    )


def _of_patterns(text: str, clock: Clock, is_utc: str) -> TimeSql:
    """Return the expressions of a text by the clock's patterns, those with an offset first."""
    read = {
        has_offset: f"epoch_us(try_strptime({text}, [{literals(patterns)}]))"
        for has_offset in (True, False)
        if (patterns := [one for one in clock.format if ("%z" in one) == has_offset])
    }
    if len(read) == 2:
        is_utc = is_utc if is_utc == "true" else f"({read[True]} IS NOT NULL)"
        return TimeSql(_bounded(f"coalesce({read[True]}, {read[False]})"), is_utc)
    return TimeSql(_bounded(next(iter(read.values()))), "true" if True in read else is_utc)


def check_patterns(connection: duckdb.DuckDBPyConnection, clock: Clock) -> None:
    """Refuse invalid time patterns before anything is read.

    Raises:
        UsageError: names what is wrong with the pattern.
    """
    for pattern in clock.format:
        try:
            connection.execute(f"SELECT try_strptime('', {literal(pattern)})").fetchall()
        except duckdb.InvalidInputException as error:
            reason = str(error).splitlines()[0].removeprefix("Invalid Input Error: ")
            raise UsageError(f"[time] format {pattern!r} cannot be used: {reason}") from None


def create_zone(connection: duckdb.DuckDBPyConnection, name: str, clock: Clock, times: str) -> None:
    """Create the table that `zone_join` joins: the zone's intervals of local time, day by day.

    Args:
        connection: the database.
        name: the table's name.
        clock: the zone, and how folds and gaps are read.
        times: a query of the times to convert, columns `time_us` and `is_utc` as in `TimeSql`.
    """
    found = only_row(
        connection,
        f"SELECT min(time_us), max(time_us) FROM ({times}) WHERE NOT is_utc",
    )
    rows = pd.DataFrame(
        columns=["day", "from_us", "until_us", "kind", "offset_us", "start_us", "end_us"]
    )
    if found[0] is not None:
        first, last = (_EPOCH + timedelta(microseconds=at) for at in found)
        rows = zone_rows(clock, first.date(), last.date())
    connection.register("zone_frame", rows)
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE {name} AS SELECT CAST(day AS DATE) AS day, "
        "CAST(from_us AS BIGINT) AS from_us, CAST(until_us AS BIGINT) AS until_us, "
        "CAST(kind AS UTINYINT) AS kind, CAST(offset_us AS BIGINT) AS offset_us, "
        "CAST(start_us AS BIGINT) AS start_us, CAST(end_us AS BIGINT) AS end_us FROM zone_frame"
    )
    connection.unregister("zone_frame")


def zone_join(zone: str, rows: str, at: str, is_utc: str, alias: str) -> str:
    """Return the LEFT JOIN of a table of `create_zone` to rows with a time."""
    return (
        f"LEFT JOIN {zone} {alias} ON NOT {rows}.{is_utc} "
        f"AND CAST(make_timestamp({rows}.{at}) AS DATE) = {alias}.day "
        f"AND {rows}.{at} >= {alias}.from_us AND {rows}.{at} < {alias}.until_us"
    )


def zone_rows(clock: Clock, first: date, last: date) -> pd.DataFrame:
    """List a zone's intervals of local time from one day to another, both included.

    Returns:
        A row per day and interval: `day`; `from_us`, `until_us`, local microseconds since 1970;
        `kind` (0, `FOLD` or `GAP`); and the microseconds to subtract for UTC, for a measurement
        (`offset_us`, missing = drop it) and for the start and the end of a stay (`start_us`,
        `end_us`), which are never dropped: in a fold a stay starts in the earlier hour and ends in
        the later one.
    """
    pieces = _pieces(ZoneInfo(clock.zone), first, last)
    rows = []
    for from_us, until_us, kind, before, after in pieces:
        offset = _offset_of(clock, kind, before, after)
        day = max(_day(from_us), first)
        while day <= last and _us(day) < until_us:
            end = after if kind == FOLD else before
            rows.append((day, from_us, until_us, kind, offset, before, end))
            day += timedelta(days=1)
    columns = ["day", "from_us", "until_us", "kind", "offset_us", "start_us", "end_us"]
    frame = pd.DataFrame(rows, columns=columns)
    return frame.astype({"offset_us": "Int64", "day": "datetime64[s]"})


def _offset_of(clock: Clock, kind: int, before: int, after: int) -> int | None:
    if kind == FOLD:
        return {"drop": None, "first": before, "second": after}[clock.fold]
    if kind == GAP:
        return {"drop": None, "shift": before}[clock.gap]
    return before


def _pieces(zone: ZoneInfo, first: date, last: date) -> list[tuple[int, int, int, int, int]]:
    """Return the intervals of local time: from, until, kind, offset before and after."""
    begin, end = first - timedelta(days=2), last + timedelta(days=2)
    pieces = []
    start = _us(begin)
    for at, before, after in _changes(zone, begin, end):
        odd_from, odd_until = at + min(before, after), at + max(before, after)
        pieces.append((start, odd_from, 0, before, before))
        kind = GAP if after > before else FOLD
        pieces.append((odd_from, odd_until, kind, before, after))
        start = odd_until
    offset = _offset(zone, _us(end))
    pieces.append((start, _us(end), 0, offset, offset))
    return [piece for piece in pieces if piece[0] < piece[1]]


def _changes(zone: ZoneInfo, begin: date, end: date) -> list[tuple[int, int, int]]:
    """Return the moments at which the offset changes: UTC, offset before, offset after."""
    changes = []
    day_us = 86_400_000_000
    low, high = _us(begin) - day_us, _us(end) + day_us
    before = _offset(zone, low)
    for start in range(low, high, day_us):
        after = _offset(zone, start + day_us)
        if after != before:
            changes.append((_change_within(zone, start, start + day_us, before), before, after))
            before = after
    return changes


def _change_within(zone: ZoneInfo, start: int, end: int, before: int) -> int:
    """Return the first whole second in (start, end] whose offset differs from `before`."""
    while end - start > 1_000_000:
        middle = start + (end - start) // 2_000_000 * 1_000_000
        if _offset(zone, middle) == before:
            start = middle
        else:
            end = middle
    return end


def _offset(zone: ZoneInfo, at_us: int) -> int:
    moment = (_EPOCH + timedelta(microseconds=at_us)).replace(tzinfo=UTC).astimezone(zone)
    offset = moment.utcoffset()
    return 0 if offset is None else offset // timedelta(microseconds=1)


def _us(day: date) -> int:
    return (day - _EPOCH.date()).days * 86_400_000_000


def _day(at_us: int) -> date:
    return (_EPOCH + timedelta(microseconds=at_us)).date()


def epoch_format(size: float) -> str:
    """Return the format of a number since 1970 by its absolute size."""
    limits = (EPOCH_LIMIT * 1000**place for place in range(len(EPOCHS)))
    return next(
        (name for name, most in zip(EPOCHS, limits, strict=False) if size < most), "epoch-ns"
    )


def _epoch_by_size(number: str) -> str:
    units = list(EPOCHS.values())
    cases = " ".join(
        f"WHEN abs({number}) < {EPOCH_LIMIT * 1000**place:.0f} THEN {number} * {unit}"
        for place, unit in enumerate(units[:-1])
    )
    return f"TRY_CAST(round(CASE {cases} ELSE {number} * {units[-1]} END) AS BIGINT)"


def _bounded(at: str) -> str:
    low, high = (_us(date(year, 1, 1)) for year in (FIRST_YEAR, LAST_YEAR))
    return f"CASE WHEN {at} >= {low} AND {at} < {high} THEN {at} END"
