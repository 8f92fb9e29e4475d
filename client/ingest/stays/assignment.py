"""Assignment of measurements to stays: by the stay's id, by its bounds, or by gaps in time.

From `staged` (see `client.ingest.reshape.staging`) to two tables:

    stays      stay, patient, owner, id, start_us, before_us, chosen, part, is_single: a stay has
               the times of its owner from `start_us` up to `before_us`; it is not single if two
               patients have its id
    stay_keys  stay, patient, owner, key, start_us, end_us; none where stays are cut by gaps
    measured   stay, since_us (since its start), code, scaled, copies, reason: each distinct
               measurement once, with the number of its copies

The owner of a measurement and of a stay is the encounter where the rows have encounters, else the
patient. `resolved`, between `staged` and `measured`, has the owner's number and the time in UTC; of
offsets it is that since the moment they count from, or if this is unknown since 1970.
"""

from __future__ import annotations

import duckdb

from client.ingest.mapping.site_mapping import SiteMapping
from client.ingest.reshape.drop_reasons import reason
from client.ingest.sources.source import Source
from client.ingest.stays.stay_rows import create_stay_rows
from client.ingest.timestamps import FOLD, GAP, create_zone, zone_join

_HOUR_US = 3_600_000_000
_NO_END = "9223372036854775807"
_IS_SINGLE = "count(*) OVER (PARTITION BY id) = 1 AS is_single"


def assign_stays(
    connection: duckdb.DuckDBPyConnection, mapping: SiteMapping, stay_source: Source | None
) -> None:
    """Create `stays` and `measured` from `staged`, which is dropped.

    Args:
        connection: has `staged` and `codes`; and if the mapping has a table of stays, the tables of
            `client.ingest.stays.stay_table`.
        mapping: has the definition of a stay.
        stay_source: the table of stays, if the mapping has one.

    Raises:
        SourceError: see `create_stay_rows`.
    """
    create_zone(connection, "zone", mapping.time, "SELECT time_us, is_utc FROM staged")
    create_stay_rows(connection, mapping, stay_source)
    _create_people(connection, mapping)
    _resolve(connection, mapping)
    connection.execute("DROP TABLE staged")
    if mapping.has_stay_keys:
        _stays_by_key(connection, mapping)
        found = "s.stay = r.stay"
    elif mapping.stay.by_gap:
        _stays_by_gap(connection, mapping.stay.gap_hours)
        found = "s.owner = r.owner"
    else:
        _stays_by_bounds(connection, mapping)
        found = "s.owner = r.owner"
    connection.execute(
        f"""
        CREATE TABLE measured AS
        SELECT s.stay, r.time_us - s.start_us AS since_us, r.code, r.scaled, r.copies,
            CASE WHEN r.reason IS NULL AND s.stay IS NULL THEN {reason("outside every stay")}
                ELSE r.reason END AS reason
        FROM resolved r LEFT JOIN stays s
            ON {found} AND r.time_us >= s.start_us AND r.time_us < s.before_us"""
    )


def _create_people(connection: duckdb.DuckDBPyConnection, mapping: SiteMapping) -> None:
    # Numbers instead of texts: a hundred million texts would not fit into memory.
    connection.execute(
        """
        CREATE TABLE people AS
        SELECT CAST(row_number() OVER (ORDER BY patient) AS INTEGER) AS person, patient FROM (
            SELECT patient FROM staged WHERE patient IS NOT NULL
            UNION SELECT patient FROM stay_rows)"""
    )
    named, since = "r.patient", "NULL::BIGINT"
    owners = f"SELECT person AS owner, patient AS name, {since} AS since_us FROM people"
    if mapping.columns.encounter:
        named, since = "r.encounter", "min(since_us)" if mapping.since else since
        owners = f"""
            SELECT CAST(row_number() OVER (ORDER BY encounter) AS INTEGER) AS owner,
                encounter AS name, {since} AS since_us FROM (
                SELECT encounter, since_us FROM stay_rows
                UNION ALL SELECT encounter, NULL FROM encounters) GROUP BY encounter"""
    connection.execute(f"CREATE TABLE owners AS {owners}")
    connection.execute(
        f"""
        CREATE TABLE stay_keys AS
        SELECT CAST(row_number() OVER (ORDER BY r.patient, r.encounter, r.key) AS INTEGER) AS stay,
            p.person, o.owner, r.patient, r.key, r.start_us, r.end_us, r.since_us, r.chosen, r.part
        FROM stay_rows r JOIN people p ON r.patient = p.patient
        JOIN owners o ON {named} = o.name"""
    )
    connection.execute("DROP TABLE stay_rows")


def _resolve(connection: duckdb.DuckDBPyConnection, mapping: SiteMapping) -> None:
    """Create `resolved`: owner, stay, time_us (UTC), code, scaled, copies, reason, ..."""
    by_key, name = mapping.has_stay_keys, "stay" if mapping.columns.encounter else "patient"
    stay = "k.stay" if by_key else "NULL::INTEGER"
    join = "LEFT JOIN stay_keys k ON s.patient = k.patient AND s.stay = k.key" if by_key else ""
    # Where rows have the stay's id, one without an admission starts at 0, as its offsets do.
    since = f"coalesce({'k' if by_key else 'o'}.since_us, 0)" if mapping.since else "0"
    connection.execute(
        f"""
        CREATE TABLE resolved AS
        SELECT d.owner, d.stay, d.time_us - coalesce(z.offset_us, 0) AS time_us, d.code, d.scaled,
            d.copies, d.chosen, d.part,
            CASE WHEN d.reason IS NULL AND z.kind > 0 AND z.offset_us IS NULL
                THEN CASE z.kind WHEN {FOLD} THEN {reason("ambiguous hour")}
                    WHEN {GAP} THEN {reason("skipped hour")} END
                ELSE d.reason END AS reason
        FROM (
            SELECT o.owner, {stay} AS stay, s.time_us + {since} AS time_us, s.is_utc, s.code,
                s.scaled, s.reason, count(*) AS copies, bool_or(s.chosen) AS chosen,
                bit_or(s.part) AS part
            FROM staged s LEFT JOIN owners o ON s.{name} = o.name {join}
            GROUP BY ALL
        ) d {zone_join("zone", "d", "time_us", "is_utc", "z")}"""
    )


def _stays_by_key(connection: duckdb.DuckDBPyConnection, mapping: SiteMapping) -> None:
    # Without an admission a stay starts with its first valid measurement, or where offsets do.
    first = "0" if mapping.time.is_offset else "f.first_us"
    connection.execute(
        f"""
        CREATE TABLE stays AS
        SELECT *, {_IS_SINGLE} FROM (
            SELECT k.stay, k.person AS patient, k.owner, {_stay_id(mapping)} AS id,
                coalesce(k.start_us, {first}) AS start_us,
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
            SELECT k.stay, k.person AS patient, k.owner, {_stay_id(mapping)} AS id, k.start_us,
                coalesce(least(
                    k.end_us + 1,
                    lead(k.start_us) OVER (PARTITION BY k.owner ORDER BY k.start_us, k.stay)
                ), {_NO_END}) AS before_us, k.end_us, k.chosen, k.part
            FROM stay_keys k)"""
    )


def _stays_by_gap(connection: duckdb.DuckDBPyConnection, gap_hours: float) -> None:
    gap_us = round(gap_hours * _HOUR_US)
    connection.execute(
        f"""
        CREATE TABLE stays AS
        WITH times AS (
            SELECT owner AS patient, time_us, bool_or(chosen) AS chosen, bit_or(part) AS part
            FROM resolved
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
            n.patient AS owner, p.patient || '-' || number AS id, min(time_us) AS start_us,
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
