"""Assignment of measurements to stays: by the stay's id, by its bounds, or by gaps in time.

From `staged` (see `client.ingest.reshape.staging`) to two tables:

    stays      stay, patient, id, start_us, before_us, chosen, part, is_single: a stay has the
               times from `start_us` up to `before_us`; it is not single if two patients have its id
    stay_keys  stay, patient, key, start_us, end_us; none where stays are cut by gaps
    stay_texts patient, key, and the columns of `[patients]` as text, if the mapping has any
    measured   stay, since_us (since its start), code, scaled, copies, reason: each distinct
               measurement once, with the number of its copies
"""

from __future__ import annotations

from typing import Any

import duckdb

from client.ingest.diagnostics.time_check import check_bounds
from client.ingest.duckdb_helpers import only_row, text_of
from client.ingest.mapping.site_mapping import SiteMapping
from client.ingest.reshape.drop_reasons import reason
from client.ingest.reshape.stay_fields import bounds_of, flag_of
from client.ingest.sources.source import ROWS, Source, check_column
from client.ingest.timestamps import FOLD, GAP, create_zone, zone_join
from client.site_split.stay_sides import part_bits
from common.errors import SourceError

_HOUR_US = 3_600_000_000
_NO_END = "9223372036854775807"
_IS_SINGLE = "count(*) OVER (PARTITION BY id) = 1 AS is_single"


def assign_stays(
    connection: duckdb.DuckDBPyConnection, mapping: SiteMapping, stay_source: Source | None
) -> list[dict[str, Any]]:
    """Create `stays` and `measured` from `staged`, which is dropped.

    Args:
        connection: has `staged` and `codes`.
        mapping: has the definition of a stay.
        stay_source: the table of stays, if the mapping has one.

    Returns:
        Signs of bounds that were not read, as `time_check.check_time_column` gives them.

    Raises:
        UsageError: the table of stays lacks a column, or its times have another format.
        SourceError: it is damaged or has a stay twice.
    """
    create_zone(connection, "zone", mapping.time, "SELECT time_us, is_utc FROM staged")
    signs = _create_stay_rows(connection, mapping, stay_source)
    _create_people(connection)
    _resolve(connection, by_key=_is_by_key(mapping))
    connection.execute("DROP TABLE staged")
    if _is_by_key(mapping):
        _stays_by_key(connection, mapping)
        found = "s.stay = r.stay"
    elif mapping.stay.by_gap:
        _stays_by_gap(connection, mapping.stay.gap_hours)
        found = "s.patient = r.patient"
    else:
        _stays_by_bounds(connection, mapping)
        found = "s.patient = r.patient"
    connection.execute(
        f"""
        CREATE TABLE measured AS
        SELECT s.stay, r.time_us - s.start_us AS since_us, r.code, r.scaled, r.copies,
            CASE WHEN r.reason IS NULL AND s.stay IS NULL THEN {reason("outside every stay")}
                ELSE r.reason END AS reason
        FROM resolved r LEFT JOIN stays s
            ON {found} AND r.time_us >= s.start_us AND r.time_us < s.before_us"""
    )
    return signs


def _is_by_key(mapping: SiteMapping) -> bool:
    return not (mapping.stay.by_gap or mapping.has_stay_table)


def _create_stay_rows(
    connection: duckdb.DuckDBPyConnection, mapping: SiteMapping, source: Source | None
) -> list[dict[str, Any]]:
    """Create `stay_rows`: patient, key, start_us, end_us (UTC, NULL if unknown), chosen, part."""
    signs = []
    if source is not None:
        _load_stays(connection, mapping, source)
        signs = check_bounds(connection, mapping, "stay_source")
        rows = "SELECT * FROM stay_source"
    elif _is_by_key(mapping):
        rows = "SELECT * FROM staged WHERE patient IS NOT NULL AND stay IS NOT NULL"
    else:
        rows = "SELECT * FROM staged WHERE false"
    bounds = " UNION ALL ".join(
        f"SELECT {name}_at AS time_us, {name}_is_utc AS is_utc FROM ({rows})"
        for name in ("start", "end")
    )
    create_zone(connection, "stay_zone", mapping.stay_clock, bounds)
    connection.execute(
        f"""
        CREATE TABLE stay_rows AS
        SELECT patient, stay AS key, min(start_at - coalesce(a.start_us, 0)) AS start_us,
            max(end_at - coalesce(b.end_us, 0)) AS end_us, bool_or(chosen) AS chosen,
            bit_or(part) AS part,
            coalesce(min(start_at) < max(start_at), false)
                OR coalesce(min(end_at) < max(end_at), false) AS is_twice
        FROM (
            SELECT patient, stay, start_at, start_is_utc, end_at, end_is_utc,
                bool_or(chosen) AS chosen, bit_or(part) AS part FROM ({rows}) GROUP BY ALL
        ) r {zone_join("stay_zone", "r", "start_at", "start_is_utc", "a")}
        {zone_join("stay_zone", "r", "end_at", "end_is_utc", "b")}
        GROUP BY ALL"""
    )
    if source is not None:
        connection.execute("DROP TABLE stay_source")
        _refuse_twice(connection, source)
    return signs


def _load_stays(
    connection: duckdb.DuckDBPyConnection, mapping: SiteMapping, source: Source
) -> None:
    stay = mapping.stay
    patient = stay.patient or mapping.columns.patient
    facts = mapping.patients.columns
    names = [patient, stay.id, stay.start, stay.end, mapping.cohort.flag, *facts.values()]
    names += [mapping.split.column] if mapping.split else []
    columns = list(dict.fromkeys(check_column(source, name) for name in names if name))
    key = text_of(stay.id) if stay.id else "CAST(start_at AS VARCHAR)"
    connection.execute(
        "CREATE TABLE stay_source (patient VARCHAR, start_at BIGINT, start_is_utc BOOLEAN, "
        "start_note VARCHAR, end_at BIGINT, end_is_utc BOOLEAN, end_note VARCHAR, stay VARCHAR, "
        f"chosen BOOLEAN, part UTINYINT{''.join(f', {name} VARCHAR' for name in facts)})"
    )
    source.load(
        connection,
        columns,
        f"INSERT INTO stay_source SELECT {text_of(patient)}, {bounds_of(source, mapping)}, {key}, "
        f"{flag_of(source, mapping)}, {part_bits(mapping.split)}"
        f"{''.join(f', {text_of(name)}' for name in facts.values())} FROM {ROWS}",
    )
    connection.execute("DELETE FROM stay_source WHERE patient IS NULL OR stay IS NULL")
    if facts:
        texts = ", ".join(f"min({name}) AS {name}" for name in facts)
        connection.execute(
            f"CREATE TABLE stay_texts AS SELECT patient, stay AS key, {texts} FROM stay_source "
            "GROUP BY ALL"
        )


def _refuse_twice(connection: duckdb.DuckDBPyConnection, source: Source) -> None:
    (twice,) = only_row(connection, "SELECT count(*) FROM stay_rows WHERE is_twice")
    if twice:
        raise SourceError(
            f"{source.name} has {twice} stays twice, with different admissions or "
            "discharges; keep one row per stay"
        )


def _create_people(connection: duckdb.DuckDBPyConnection) -> None:
    # Numbers instead of texts: a hundred million texts would not fit into memory.
    connection.execute(
        """
        CREATE TABLE people AS
        SELECT CAST(row_number() OVER (ORDER BY patient) AS INTEGER) AS person, patient FROM (
            SELECT patient FROM staged WHERE patient IS NOT NULL
            UNION SELECT patient FROM stay_rows)"""
    )
    connection.execute(
        """
        CREATE TABLE stay_keys AS
        SELECT CAST(row_number() OVER (ORDER BY r.patient, r.key) AS INTEGER) AS stay, p.person,
            r.patient, r.key, r.start_us, r.end_us, r.chosen, r.part
        FROM stay_rows r JOIN people p ON r.patient = p.patient"""
    )
    connection.execute("DROP TABLE stay_rows")


def _resolve(connection: duckdb.DuckDBPyConnection, *, by_key: bool) -> None:
    """Create `resolved`: patient, stay, time_us (UTC), code, scaled, copies, reason, ..."""
    stay = "k.stay" if by_key else "NULL::INTEGER"
    join = "LEFT JOIN stay_keys k ON s.patient = k.patient AND s.stay = k.key" if by_key else ""
    connection.execute(
        f"""
        CREATE TABLE resolved AS
        SELECT d.patient, d.stay, d.time_us - coalesce(z.offset_us, 0) AS time_us, d.code, d.scaled,
            d.copies, d.chosen, d.part,
            CASE WHEN d.reason IS NULL AND z.kind > 0 AND z.offset_us IS NULL
                THEN CASE z.kind WHEN {FOLD} THEN {reason("ambiguous hour")}
                    WHEN {GAP} THEN {reason("skipped hour")} END
                ELSE d.reason END AS reason
        FROM (
            SELECT p.person AS patient, {stay} AS stay, s.time_us, s.is_utc, s.code, s.scaled,
                s.reason, count(*) AS copies, bool_or(s.chosen) AS chosen, bit_or(s.part) AS part
            FROM staged s LEFT JOIN people p ON s.patient = p.patient {join}
            GROUP BY ALL
        ) d {zone_join("zone", "d", "time_us", "is_utc", "z")}"""
    )


def _stays_by_key(connection: duckdb.DuckDBPyConnection, mapping: SiteMapping) -> None:
    # Without an admission a stay starts with its first valid measurement.
    connection.execute(
        f"""
        CREATE TABLE stays AS
        SELECT *, {_IS_SINGLE} FROM (
            SELECT k.stay, k.person AS patient, {_stay_id(mapping)} AS id,
                coalesce(k.start_us, f.first_us) AS start_us,
                coalesce(k.end_us + 1, {_NO_END}) AS before_us, k.end_us, k.chosen, k.part
            FROM stay_keys k LEFT JOIN (
                SELECT stay, min(time_us) AS first_us FROM resolved
                WHERE reason IS NULL GROUP BY stay
            ) f ON k.stay = f.stay)"""
    )


def _stays_by_bounds(connection: duckdb.DuckDBPyConnection, mapping: SiteMapping) -> None:
    """Create `stays` from bounds; a moment that ends one and starts the next is in the next."""
    connection.execute(
        f"""
        CREATE TABLE stays AS
        SELECT *, {_IS_SINGLE} FROM (
            SELECT k.stay, k.person AS patient, {_stay_id(mapping)} AS id, k.start_us,
                coalesce(least(
                    k.end_us + 1,
                    lead(k.start_us) OVER (PARTITION BY k.person ORDER BY k.start_us, k.stay)
                ), {_NO_END}) AS before_us, k.end_us, k.chosen, k.part
            FROM stay_keys k)"""
    )


def _stays_by_gap(connection: duckdb.DuckDBPyConnection, gap_hours: float) -> None:
    gap_us = round(gap_hours * _HOUR_US)
    connection.execute(
        f"""
        CREATE TABLE stays AS
        WITH times AS (
            SELECT patient, time_us, bool_or(chosen) AS chosen, bit_or(part) AS part FROM resolved
            WHERE reason IS NULL GROUP BY ALL
        ), marked AS (
            SELECT patient, time_us, chosen, part, coalesce(time_us - lag(time_us)
                OVER (PARTITION BY patient ORDER BY time_us) > {gap_us}, true) AS is_first
            FROM times
        ), numbered AS (
            SELECT patient, time_us, chosen, part, count(*) FILTER (is_first)
                OVER (PARTITION BY patient ORDER BY time_us) AS number FROM marked
        )
        SELECT CAST(row_number() OVER (ORDER BY n.patient, number) AS INTEGER) AS stay, n.patient,
            p.patient || '-' || number AS id, min(time_us) AS start_us,
            max(time_us) + 1 AS before_us, NULL::BIGINT AS end_us, bool_or(chosen) AS chosen,
            bit_or(part) AS part, true AS is_single
        FROM numbered n JOIN people p ON n.patient = p.person
        GROUP BY n.patient, p.patient, number"""
    )


def _stay_id(mapping: SiteMapping) -> str:
    """Return the SQL of a stay's id: the hospital's own, or its number within the patient."""
    if mapping.stay.id:
        return "k.patient || '-' || k.key" if mapping.stay.per_patient else "k.key"
    number = "row_number() OVER (PARTITION BY k.person ORDER BY k.start_us, k.stay)"
    return f"k.patient || '-' || {number}"
