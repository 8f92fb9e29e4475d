"""Reshaping of a hospital's rows, long or wide, to measurements of one vital sign each.

This is the single pass over the source. It fills the DuckDB table `staged`, a row per measurement:

    patient, stay      the hospital's ids; `stay` is the encounter's where `[columns]` names one,
                       NULL if the rows have none; `patient` NULL if the encounter is unknown
    start_*, end_*     bounds of the stay, if the rows have them (time and `is_utc`: timestamps.py)
    time_us, is_utc    time of the measurement
    code               number of its code or column (see `create_codes`)
    scaled             value in millionths of the site table's unit, NULL if not a number
    reason             index into `DROP_REASONS`, NULL if not dropped so far
    chosen             whether the row has the cohort's flag
    note               what was not understood: the text of the time, the value or the unit
    *_note             text of a bound that is no time
    part               bit of the row's part in the hospital's own split (`part_bits`)
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import duckdb

from client.ingest.diagnostics.other_codes import OtherCodes
from client.ingest.duckdb_helpers import (
    TEXT,
    literal,
    literals,
    number_in,
    number_of,
    quoted,
    text_of,
)
from client.ingest.mapping.site_mapping import SiteMapping
from client.ingest.reshape.codes import create_codes
from client.ingest.reshape.drop_reasons import reason
from client.ingest.reshape.stay_fields import NOTE_LENGTH, stay_columns
from client.ingest.sources.source import ROWS, Source, check_column
from client.ingest.timestamps import time_of
from client.ingest.units import (
    AMBIGUOUS,
    TRAILING_UNIT,
    normalised,
    normalised_sql,
    unit_by_range_sql,
    unit_name_sql,
    unit_ranges,
)
from common.data.step_means import MILLIONTHS
from common.data.vitals import VITAL_NAMES

_STAGED = """
    CREATE TABLE staged (
        patient VARCHAR, stay VARCHAR, start_at BIGINT, start_is_utc BOOLEAN, end_at BIGINT,
        end_is_utc BOOLEAN, time_us BIGINT, is_utc BOOLEAN, code USMALLINT, scaled BIGINT,
        reason UTINYINT, chosen BOOLEAN, part UTINYINT, note VARCHAR, start_note VARCHAR,
        end_note VARCHAR)"""


def stage(
    connection: duckdb.DuckDBPyConnection, sources: Iterable[Source], mapping: SiteMapping
) -> list[dict[str, Any]]:
    """Read the sources, one after the other, into the table `staged`.

    Returns:
        Codes that the mapping does not name, as `OtherCodes.most` gives them. Where rows have the
        encounter, the database has `encounters`.

    Raises:
        UsageError: a source lacks a column that the mapping names.
        SourceError: a source is damaged.
    """
    create_codes(connection, mapping)
    connection.execute(_STAGED)
    others = OtherCodes()
    known = mapping.codes
    # Most rows of a long table have other codes.
    only = (mapping.columns.code.lower(), known, others.add) if mapping.shape == "long" else None
    for source in sources:
        columns = _columns(source, mapping)
        statement = f"INSERT INTO staged {_measurements(source, mapping)}"
        source.load(connection, columns, statement, only=only)
    return others.most(known)


def _columns(source: Source, mapping: SiteMapping) -> list[str]:
    """Return the columns to read, in lower case and each once."""
    return list(dict.fromkeys(check_column(source, name) for name in mapping.row_columns))


def _measurements(source: Source, mapping: SiteMapping) -> str:
    """Return the query from a source's rows to rows of `staged`."""
    columns = mapping.columns
    time = time_of(columns.time, source.types[columns.time.lower()], mapping.time)
    who = text_of(columns.patient) if columns.patient else "NULL::VARCHAR"
    patient = "e.patient" if columns.encounter else "r.patient"
    encounters = "LEFT JOIN encounters e ON r.stay = e.encounter" if columns.encounter else ""
    unknown = f"if(r.stay IS NULL, {reason('no patient')}, {reason('unknown encounter')})"
    nobody = unknown if columns.encounter else str(reason("no patient"))
    raw = f"""
        SELECT {who} AS patient, {stay_columns(source, mapping)},
            {time.at} AS time_us, {time.is_utc} AS is_utc, {_drop(mapping)} AS is_dropped,
            {quoted(columns.time)} AS time_field, {_values(source, mapping)} FROM {ROWS}"""
    # A number too large for BIGINT is NULL, an impossible value too.
    converted = "(r.number - u.subtract) * u.multiply / u.divide"
    # A query per step: DuckDB copies an alias' expression to each of its uses in the same query,
    # and then plans for longer than it takes to read a small table.
    in_table_units = f"""
        SELECT r.*, {patient} AS owner, u.vital IS NULL AS is_unknown_unit,
            TRY_CAST(round({MILLIONTHS} * ({converted})) AS BIGINT) AS scaled
        FROM ({_with_units(raw, mapping)}) r
        LEFT JOIN units u ON u.vital = r.vital AND u.spelling = r.unit {encounters}"""
    return f"""
        SELECT owner, stay, start_at, start_is_utc, end_at, end_is_utc, time_us,
            coalesce(is_utc, true), code, scaled, reason, chosen, part, {_note()}, start_note,
            end_note
        FROM (SELECT *, {_reason(nobody)} AS reason FROM ({in_table_units}) r) r"""


def _reason(nobody: str) -> str:
    """Return the SQL of the reason to drop a row, NULL if none.

    Args:
        nobody: SQL of the reason for a row without a patient.
    """
    # The site table holds float32: a value just below a limit must not be rounded onto it.
    held = f"CAST(r.scaled / {MILLIONTHS} AS FLOAT)"
    return f"""CASE
        WHEN r.is_dropped THEN {reason("left out by a drop rule")}
        WHEN r.owner IS NULL THEN {nobody}
        WHEN r.time_us IS NULL THEN {reason("no time")}
        WHEN r.number IS NULL OR isnan(r.number) THEN {reason("no number")}
        WHEN r.is_unknown_unit THEN if(r.unit = '{AMBIGUOUS}', {reason("ambiguous unit")},
            {reason("unknown unit")})
        WHEN r.scaled IS NULL OR NOT (
            r.number > r.least AND r.number < r.most AND {held} > r.low
            AND ({held} < r.high OR (r.high_included AND {held} = r.high))
        ) THEN {reason("impossible value")}
    END"""


def _with_units(raw: str, mapping: SiteMapping) -> str:
    """Return the query of rows with their code's columns, and the number and unit to convert."""
    number, suffix = (f"regexp_extract(r.text, '{TRAILING_UNIT}', {part})" for part in (1, 2))
    # Only of a text that is no number: a number followed by a unit of this vital sign.
    texts = f"""
        SELECT r.* EXCLUDE (unit, code), r.unit AS unit_text, c.* EXCLUDE (unit, text),
            if(c.unit = '', coalesce({normalised_sql("r.unit")}, ''), c.unit) AS stated,
            CASE WHEN r.number IS NULL THEN {normalised_sql(suffix)} END AS suffix
        FROM ({raw}) r JOIN codes c ON r.code = c.text WHERE r.is_there"""
    named = f"""
        SELECT *, {unit_name_sql("vital", "suffix", mapping.units)} AS suffix_unit,
            {unit_name_sql("vital", "stated", mapping.units)} AS stated_unit FROM ({texts})"""
    # A text whose unit is not the stated one is no value of either.
    unit = f"""CASE WHEN suffix_unit IS NULL THEN {_by_range(mapping)}
        WHEN stated = '' OR suffix_unit = stated_unit THEN suffix_unit ELSE '?' END"""
    return f"""
        SELECT r.* EXCLUDE (number), {unit} AS unit,
            if(suffix_unit IS NULL, r.number, {number_in(number, mapping.file.decimal)}) AS number
        FROM ({named}) r"""


def _note() -> str:
    """Return the SQL of the text that was not understood, NULL for other reasons to drop."""
    number = "coalesce(r.text, CAST(r.number AS VARCHAR))"
    return f"""
        left(CASE r.reason
            WHEN {reason("no time")} THEN trim(CAST(r.time_field AS VARCHAR))
            WHEN {reason("no number")} THEN r.text
            WHEN {reason("unknown unit")} THEN if(r.suffix_unit IS NULL, r.unit_text, r.text)
            WHEN {reason("ambiguous unit")} THEN {number}
            WHEN {reason("impossible value")} THEN {number}
        END, {NOTE_LENGTH}) AS note"""


def _by_range(mapping: SiteMapping) -> str:
    """Return the SQL of the unit: stated, or by the value's range where a source names several."""
    cases = {}
    for vital in mapping.vitals:
        for source in vital.sources:
            if source.units:
                ranges = unit_ranges(vital.name, source.units)
                key = "/".join(map(normalised, source.units))
                cases[vital.name, key] = (
                    f"WHEN r.vital = {VITAL_NAMES.index(vital.name)} AND r.units = {literal(key)} "
                    f"THEN {unit_by_range_sql(ranges, 'r.number')}"
                )
    return f"CASE {' '.join(cases.values())} ELSE stated END" if cases else "stated"


def _values(source: Source, mapping: SiteMapping) -> str:
    """Return the SQL of code, number, unit and is_there: one per long row, one per wide column."""
    columns, decimal = mapping.columns, mapping.file.decimal
    if mapping.shape == "long":
        kind = source.types[columns.value.lower()]
        number, text = number_of(columns.value, kind, decimal), _text(columns.value, kind)
        unit = text_of(columns.unit) if columns.unit else "NULL::VARCHAR"
        return (
            f"{text_of(columns.code)} AS code, {number} AS number, {text} AS text, {unit} AS unit, "
            "true AS is_there"
        )
    fields = []
    for place in (place for vital in mapping.vitals for place in vital.sources):
        kind = source.types[place.column.lower()]
        number = number_of(place.column, kind, decimal)
        # An empty cell of a wide row is no measurement; a text is one without a number.
        there = f"{text_of(place.column)} IS NOT NULL"
        if kind in ("DOUBLE", "FLOAT"):
            there += f" AND NOT isnan({quoted(place.column)})"
        code, text = literals([place.column]), _text(place.column, kind)
        unit = text_of(place.unit_column) if place.unit_column else "NULL::VARCHAR"
        fields.append(
            f"{{'code': {code}, 'number': {number}, 'text': {text}, 'unit': {unit}, "
            f"'is_there': {there}}}"
        )
    return f"unnest([{', '.join(fields)}], recursive := true)"


def _text(column: str, kind: str) -> str:
    return text_of(column) if kind == TEXT else "NULL::VARCHAR"


def _drop(mapping: SiteMapping) -> str:
    tests = [
        f"coalesce({text_of(rule.column)} IN ({literals(rule.values)}), false)"
        for rule in mapping.drop
    ]
    return " OR ".join(tests) or "false"
