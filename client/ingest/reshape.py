"""Reshaping of a hospital's rows, long or wide, to measurements of one vital sign each.

This is the single pass over the source. It fills the DuckDB table `staged`, a row per measurement:

    patient, stay      the hospital's ids; `stay` NULL if the rows have none
    start_*, end_*     bounds of the stay, if the rows have them (time and `is_utc`: timestamps.py)
    time_us, is_utc    time of the measurement
    code               number of its code or column (see `create_codes`)
    scaled             value in millionths of the site table's unit, NULL if not a number
    reason             index into `DROP_REASONS`, NULL if not dropped so far
    chosen             whether the row has the cohort's flag
    part               bit of the row's part in the hospital's own split (`part_bits`)
"""

from __future__ import annotations

from collections.abc import Iterable

import duckdb

from client.ingest.duckdb_helpers import create_table, literals, number_of, quoted, text_of
from client.ingest.mapping import SiteMapping
from client.ingest.mapping_sections import Clock
from client.ingest.sources import ROWS, Source, check_column
from client.ingest.timestamps import time_of
from client.ingest.units import normalised, unit_rows
from client.site_split.stay_sides import part_bits
from common.data.site_table import VITAL_NAMES, VITALS
from common.data.step_means import MILLIONTHS

DROP_REASONS: tuple[str, ...] = (
    "duplicate",
    "left out by a drop rule",
    "no patient",
    "no time",
    "no number",
    "unknown unit",
    "impossible value",
    "ambiguous hour",
    "skipped hour",
    "outside every stay",
    "in a stay left out",
)
"""Reasons to drop a measurement; the first that applies, in this order, is counted. Of several
equal ones (same patient, stay, time, code and value) all but one are duplicates, even if that one
is dropped."""

_STAGED = """
    CREATE TABLE staged (
        patient VARCHAR, stay VARCHAR, start_at BIGINT, start_is_utc BOOLEAN, end_at BIGINT,
        end_is_utc BOOLEAN, time_us BIGINT, is_utc BOOLEAN, code USMALLINT, scaled BIGINT,
        reason UTINYINT, chosen BOOLEAN, part UTINYINT)"""


def reason(name: str) -> int:
    """Return the index of a reason."""
    return DROP_REASONS.index(name)


def stage(
    connection: duckdb.DuckDBPyConnection, sources: Iterable[Source], mapping: SiteMapping
) -> None:
    """Read the sources, one after the other, into the table `staged`.

    Raises:
        UsageError: a source lacks a column that the mapping names.
        SourceError: a source is damaged.
    """
    create_codes(connection, mapping)
    connection.execute(_STAGED)
    for source in sources:
        columns = _columns(source, mapping)
        statement = f"INSERT INTO staged {_measurements(source, mapping)}"
        source.load(connection, columns, statement, only=_codes(mapping))


def create_codes(connection: duckdb.DuckDBPyConnection, mapping: SiteMapping) -> None:
    """Create `codes` (meaning of each code or column) and `units` (conversion of each unit)."""
    rows: list[tuple[object, ...]] = []
    for vital in mapping.vitals:
        index = VITAL_NAMES.index(vital.name)
        for rank, source in enumerate(vital.sources):
            for text in source.codes or (source.column,):
                place = rank if vital.combine == "priority" else 0
                limits = (source.low, source.high, *_range(index))
                rows.append((len(rows), text, index, place, normalised(source.unit), *limits))
    columns = (
        "code USMALLINT, text VARCHAR, vital UTINYINT, rank UTINYINT, unit VARCHAR, least DOUBLE, "
        "most DOUBLE, low DOUBLE, high DOUBLE, high_included BOOLEAN"
    )
    create_table(connection, "codes", columns, rows)
    columns = "vital UTINYINT, spelling VARCHAR, subtract DOUBLE, multiply DOUBLE, divide DOUBLE"
    create_table(connection, "units", columns, unit_rows())


def bounds_of(source: Source, mapping: SiteMapping) -> str:
    """Return the SQL columns of a stay's bounds: start_at, start_is_utc, end_at, end_is_utc."""
    return ", ".join(
        (
            _time(source, mapping.stay.start, mapping.stay_clock, "start_at", "start_is_utc"),
            _time(source, mapping.stay.end, mapping.stay_clock, "end_at", "end_is_utc"),
        )
    )


def flag_of(source: Source, mapping: SiteMapping) -> str:
    """Return the SQL condition that a row has the cohort's flag."""
    cohort = mapping.cohort
    if not cohort.flag:
        return "true"
    check_column(source, cohort.flag)
    values = literals(value.lower() for value in cohort.flag_values)
    return f"coalesce(lower({text_of(cohort.flag)}) IN ({values}), false)"


def _range(index: int) -> tuple[float, float, bool]:
    vital = VITALS[index]
    return vital.low, vital.high, vital.high_included


def _columns(source: Source, mapping: SiteMapping) -> list[str]:
    """Return the columns to read, in lower case and each once."""
    names = [mapping.columns.patient, mapping.columns.time]
    names += [mapping.columns.code, mapping.columns.value, mapping.columns.unit]
    names += [place.column for vital in mapping.vitals for place in vital.sources]
    names += [rule.column for rule in mapping.drop]
    if not mapping.has_stay_table:
        names += [mapping.stay.id, mapping.stay.start, mapping.stay.end, mapping.cohort.flag]
        names += [mapping.split.column] if mapping.split else []
    return list(dict.fromkeys(check_column(source, name) for name in names if name))


def _codes(mapping: SiteMapping) -> tuple[str, list[str]] | None:
    """Return the column of codes and the codes to keep; most rows of a long table have others."""
    if mapping.shape == "wide":
        return None
    codes = [code for vital in mapping.vitals for place in vital.sources for code in place.codes]
    return mapping.columns.code.lower(), codes


def _measurements(source: Source, mapping: SiteMapping) -> str:
    """Return the query from a source's rows to rows of `staged`."""
    columns = mapping.columns
    time = time_of(columns.time, source.types[columns.time.lower()], mapping.time)
    raw = f"""
        SELECT {text_of(columns.patient)} AS patient, {_stay_columns(source, mapping)},
            {time.at} AS time_us, {time.is_utc} AS is_utc, {_drop(mapping)} AS is_dropped,
            {_values(source, mapping)} FROM {ROWS}"""
    # As `units.normalised` writes it.
    of_row = "lower(regexp_replace(r.unit, '\\s', '', 'g'))"
    unit = f"CASE WHEN c.unit = '' THEN coalesce({of_row}, '') ELSE c.unit END"
    # A number too large for BIGINT is NULL, an impossible value too.
    converted = "(r.number - u.subtract) * u.multiply / u.divide"
    scaled = f"TRY_CAST(round({MILLIONTHS} * ({converted})) AS BIGINT)"
    # The site table holds float32: a value just below a limit must not be rounded onto it.
    held = f"CAST(scaled / {MILLIONTHS} AS FLOAT)"
    return f"""
        SELECT r.patient, r.stay, r.start_at, r.start_is_utc, r.end_at, r.end_is_utc, r.time_us,
            coalesce(r.is_utc, true), c.code, {scaled} AS scaled,
            CASE
                WHEN r.is_dropped THEN {reason("left out by a drop rule")}
                WHEN r.patient IS NULL THEN {reason("no patient")}
                WHEN r.time_us IS NULL THEN {reason("no time")}
                WHEN r.number IS NULL OR isnan(r.number) THEN {reason("no number")}
                WHEN u.vital IS NULL THEN {reason("unknown unit")}
                WHEN scaled IS NULL OR NOT (
                    r.number > c.least AND r.number < c.most AND {held} > c.low
                    AND ({held} < c.high OR (c.high_included AND {held} = c.high))
                ) THEN {reason("impossible value")}
            END, r.chosen, r.part
        FROM ({raw}) r JOIN codes c ON r.code = c.text
        LEFT JOIN units u ON u.vital = c.vital
            AND u.spelling = {unit}
        WHERE r.is_there"""


def _stay_columns(source: Source, mapping: SiteMapping) -> str:
    stay = mapping.stay
    if mapping.has_stay_table or stay.by_gap:
        # Stays are then found by patient and time.
        of_stay_table = mapping.has_stay_table
        flag = "true" if of_stay_table else flag_of(source, mapping)
        part = part_bits(None if of_stay_table else mapping.split)
        bounds = "NULL AS start_at, NULL AS start_is_utc, NULL AS end_at, NULL AS end_is_utc"
        return f"NULL AS stay, {bounds}, {flag} AS chosen, {part} AS part"
    bounds = bounds_of(source, mapping)
    # Without an id, stays of a patient are distinguished by admission.
    key = text_of(stay.id) if stay.id else "CAST(start_at AS VARCHAR)"
    part = part_bits(mapping.split)
    return f"{bounds}, {key} AS stay, {flag_of(source, mapping)} AS chosen, {part} AS part"


def _values(source: Source, mapping: SiteMapping) -> str:
    """Return the SQL of code, number, unit and is_there: one per long row, one per wide column."""
    columns, decimal = mapping.columns, mapping.file.decimal
    if mapping.shape == "long":
        number = number_of(columns.value, source.types[columns.value.lower()], decimal)
        unit = text_of(columns.unit) if columns.unit else "NULL::VARCHAR"
        return (
            f"{text_of(columns.code)} AS code, {number} AS number, {unit} AS unit, true AS is_there"
        )
    fields = []
    for place in (place for vital in mapping.vitals for place in vital.sources):
        kind = source.types[place.column.lower()]
        number = number_of(place.column, kind, decimal)
        # An empty cell of a wide row is no measurement; a text is one without a number.
        there = f"{text_of(place.column)} IS NOT NULL"
        if kind in ("DOUBLE", "FLOAT"):
            there += f" AND NOT isnan({quoted(place.column)})"
        code = literals([place.column])
        fields.append(f"{{'code': {code}, 'number': {number}, 'is_there': {there}}}")
    return f"NULL::VARCHAR AS unit, unnest([{', '.join(fields)}], recursive := true)"


def _drop(mapping: SiteMapping) -> str:
    tests = [
        f"coalesce({text_of(rule.column)} IN ({literals(rule.values)}), false)"
        for rule in mapping.drop
    ]
    return " OR ".join(tests) or "false"


def _time(source: Source, column: str, clock: Clock, at: str, is_utc: str) -> str:
    if not column:
        return f"NULL::BIGINT AS {at}, true AS {is_utc}"
    time = time_of(column, source.types[check_column(source, column)], clock)
    return f"{time.at} AS {at}, coalesce({time.is_utc}, true) AS {is_utc}"
