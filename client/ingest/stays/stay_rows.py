"""Rows of stays, from a table of stays or from the bounds in the rows, with their bounds in UTC.

The table `stay_rows` has a row per stay: patient, encounter, key, chosen, part; and in microseconds
of UTC, NULL if unknown, start_us, end_us and since_us, the moment that offsets count from.
"""

from __future__ import annotations

import duckdb

from client.ingest.duckdb_helpers import only_row
from client.ingest.mapping.site_mapping import SiteMapping
from client.ingest.sources.source import Source
from client.ingest.timestamps import create_zone, zone_join
from common.errors import SourceError

_HOUR_US = 3_600_000_000


def create_stay_rows(
    connection: duckdb.DuckDBPyConnection, mapping: SiteMapping, source: Source | None
) -> None:
    """Create `stay_rows` from `stay_source`, which is dropped, or from the rows in `staged`.

    Args:
        connection: has these tables.
        mapping: has the definition of a stay.
        source: the table of stays, if the mapping has one.

    Raises:
        SourceError: the table of stays has a stay twice, or an encounter with two admissions that
            offsets may count from.
    """
    of_rows = "SELECT *, NULL::VARCHAR AS encounter, start_at AS since_at, start_is_utc AS "
    of_rows += "since_is_utc FROM staged WHERE "
    if source is not None:
        rows = "SELECT * FROM stay_source"
    elif mapping.has_stay_keys:
        rows = f"{of_rows} patient IS NOT NULL AND stay IS NOT NULL"
    else:
        rows = f"{of_rows} false"
    bounds = " UNION ALL ".join(
        f"SELECT {name}_at AS time_us, {name}_is_utc AS is_utc FROM ({rows})"
        for name in ("start", "end", "since")
    )
    create_zone(connection, "stay_zone", mapping.stay_clock, bounds)
    connection.execute(
        f"""
        CREATE TABLE stay_rows AS
        SELECT patient, encounter, stay AS key,
            min(start_at - coalesce(a.start_us, 0)) AS start_us,
            max(end_at - coalesce(b.end_us, 0)) AS end_us,
            min(since_at - coalesce(c.start_us, 0)) AS since_us, bool_or(chosen) AS chosen,
            bit_or(part) AS part,
            coalesce(min(start_at) < max(start_at), false)
                OR coalesce(min(end_at) < max(end_at), false) AS is_twice
        FROM (
            SELECT patient, encounter, stay, start_at, start_is_utc, end_at, end_is_utc, since_at,
                since_is_utc, bool_or(chosen) AS chosen, bit_or(part) AS part
            FROM ({rows}) GROUP BY ALL
        ) r {zone_join("stay_zone", "r", "start_at", "start_is_utc", "a")}
        {zone_join("stay_zone", "r", "end_at", "end_is_utc", "b")}
        {zone_join("stay_zone", "r", "since_at", "since_is_utc", "c")}
        GROUP BY ALL"""
    )
    if source is not None:
        connection.execute("DROP TABLE stay_source")
        _refuse_twice(connection, source)
        if mapping.since:
            _refuse_several_moments(connection, mapping, source)
    if mapping.stay.merge_hours:
        _merge(connection, mapping.stay.merge_hours)


def _refuse_twice(connection: duckdb.DuckDBPyConnection, source: Source) -> None:
    (twice,) = only_row(connection, "SELECT count(*) FROM stay_rows WHERE is_twice")
    if twice:
        raise SourceError(
            f"{source.name} has {twice} stays twice, with different admissions or "
            "discharges; keep one row per stay"
        )


def _refuse_several_moments(
    connection: duckdb.DuckDBPyConnection, mapping: SiteMapping, source: Source
) -> None:
    (several,) = only_row(
        connection,
        "SELECT count(*) FROM (SELECT encounter FROM stay_rows GROUP BY encounter "
        "HAVING min(since_us) < max(since_us))",
    )
    if several:
        raise SourceError(
            f"{source.name} has several {mapping.since} for {several:,} encounters, and offsets of "
            "[time] count from one; name the column of that moment with since in [stay]"
        )


def _merge(connection: duckdb.DuckDBPyConnection, merge_hours: float) -> None:
    """Join stays of `stay_rows` that follow each other; the first one's key is that of all."""
    owner = "PARTITION BY patient, encounter ORDER BY start_us, key"
    before = f"({owner} ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)"
    connection.execute(
        f"""
        CREATE OR REPLACE TABLE stay_rows AS
        WITH marked AS (
            SELECT *, coalesce(start_us - max(coalesce(end_us, start_us)) OVER {before}
                > {round(merge_hours * _HOUR_US)}, true) AS is_first FROM stay_rows
        ), numbered AS (
            SELECT *, count(*) FILTER (is_first) OVER ({owner}) AS number FROM marked
        )
        SELECT patient, encounter, first(key ORDER BY start_us, key) AS key,
            min(start_us) AS start_us,
            CASE WHEN bool_and(end_us IS NOT NULL) THEN max(end_us) END AS end_us,
            min(since_us) AS since_us, bool_or(chosen) AS chosen, bit_or(part) AS part,
            false AS is_twice
        FROM numbered GROUP BY patient, encounter, number"""
    )
