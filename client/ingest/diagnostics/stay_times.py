"""Stays whose times are wrong, counted at the ingest: the site table has hours alone.

The two checks of single hours look at the vital sign with most values, which is enough: a time is
that of a row, not of a vital sign. Memory is bounded by the database's limit.
"""

from __future__ import annotations

from typing import Any

import duckdb
import pandas as pd

from client.ingest.duckdb_helpers import only_row
from client.ingest.mapping.clock import OFFSETS
from client.ingest.mapping.site_mapping import SiteMapping
from client.ingest.timestamps import UTC_ZONE
from common.data.step_means import MINUTE_US

LEAST_AT_MIDNIGHT, MIDNIGHT_SHARE, CODE_SHARE = 12, 0.3, 0.9
"""Least values of a stay at midnight, and their share of all its values (of hourly ones it is one
in 24) or of those of one code (a code may be charted every 12 hours)."""

LEAST_CROWDED = 6
"""Least values of one vital sign in an hour that may hold a whole day's."""

CROWDED_TIMES = 6
"""So many times the usual values of an hour of the stay are crowded."""

EMPTY_HOURS = 12
"""Hours without a value around a crowded one."""

LEAST_DOUBLED, DOUBLED_SHARE, LEAST_SINGLE = 3, 0.5, 6
"""Least times with two values of one code, their share from the first to the last of them, and the
least times outside: the clock was set back, and passed a part of the times twice."""

LEAST_BEYOND = 3
"""Least values of a stay's own rows a day or more outside its bounds."""

_HOUR_US = 60 * MINUTE_US
_DAY_US = 24 * _HOUR_US
_SLOT_US = 15 * MINUTE_US
_ZERO_DATES = ("1970-01-01", "1900-01-01")


def count_stays_with_odd_times(
    connection: duckdb.DuckDBPyConnection, mapping: SiteMapping
) -> list[dict[str, Any]]:
    """Count the stays by what is wrong with their times.

    Args:
        connection: has the tables of `stays.assign_stays` and `selection.keep_stays`.
        mapping: the mapping of the ingest.

    Returns:
        A sign per kind that occurs: `kind`, `stays`, `of`, `values`, and `example` (a stay's id,
        "" where the stay is not in the table). The kinds: ``midnight``; ``day-in-hour`` (an hour
        holds a day's values); ``set-back`` (a clock passed the same times twice); ``outside`` (own
        values a day or more outside the stay's bounds); ``too-long`` (left out as too long, for a
        jump longer than a stay can be); ``zero-date`` (values at the day zero of a computer's
        calendar; patients, not stays).
    """
    connection.execute(
        """
        CREATE TEMP TABLE charted AS
        SELECT m.stay, m.code, m.since_us, count(*) AS count
        FROM measured m JOIN kept k ON m.stay = k.stay JOIN codes c ON m.code = c.code
        WHERE m.reason IS NULL AND c.vital = (
            SELECT c.vital FROM measured m JOIN codes c ON m.code = c.code WHERE m.reason IS NULL
            GROUP BY c.vital ORDER BY count(*) DESC, c.vital LIMIT 1)
        GROUP BY ALL"""
    )
    (kept,) = only_row(connection, "SELECT count(*) FROM kept")
    at_midnight = _midnight(connection, mapping, kept)
    found = [at_midnight]
    found += [_sign(connection, kind, query, kept) for kind, query in _QUERIES.items()]
    connection.execute("DROP TABLE charted")
    connection.execute("DROP TABLE at_midnight")
    found.append(_too_long(connection, mapping))
    if mapping.time.format[0] not in OFFSETS:
        found.append(_zero_dates(connection, mapping))
    return [sign for sign in found if sign["stays"]]


_DAY_IN_HOUR = f"""
    WITH hours AS (
        SELECT stay, since_us // {_HOUR_US} AS hour, sum(count) AS count FROM charted GROUP BY ALL
    ), around AS (
        SELECT stay, count, hour - lag(hour) OVER by_stay AS before,
            lead(hour) OVER by_stay - hour AS after, median(count) OVER (PARTITION BY stay) AS usual
        FROM hours WINDOW by_stay AS (PARTITION BY stay ORDER BY hour)
    ), crowded AS (
        SELECT stay, count, count >= {CROWDED_TIMES} * usual AND before + after > {EMPTY_HOURS}
                AS is_among_others,
            coalesce(before, after) > {EMPTY_HOURS} AND coalesce(after, before) > {EMPTY_HOURS}
                AS is_alone
        FROM around
        WHERE count >= {LEAST_CROWDED} AND stay NOT IN (SELECT stay FROM at_midnight)
    )
    SELECT stay, sum(count) AS count FROM crowded WHERE is_among_others OR is_alone
    GROUP BY stay HAVING bool_or(is_among_others) OR count(*) > 1"""

_SET_BACK = f"""
    WITH doubled AS (
        SELECT stay, code, min(since_us) AS first_us, max(since_us) AS last_us, count(*) AS times
        FROM charted WHERE count > 1 GROUP BY ALL HAVING times >= {LEAST_DOUBLED}
    ), within AS (
        SELECT d.stay, d.code, d.times, count(*) AS every,
            count(*) FILTER (c.since_us BETWEEN d.first_us AND d.last_us) AS between_them
        FROM doubled d JOIN charted c ON d.stay = c.stay AND d.code = c.code GROUP BY ALL
    )
    SELECT stay, sum(times) AS count FROM within
    WHERE times >= {DOUBLED_SHARE} * between_them AND every - between_them >= {LEAST_SINGLE}
    GROUP BY stay"""

# Rows have the id of their stay where stays are found by it; else such rows are of no stay.
_OUTSIDE = f"""
    SELECT s.stay, count(*) AS count
    FROM resolved r JOIN stays s ON r.stay = s.stay JOIN kept k ON s.stay = k.stay
    WHERE r.reason IS NULL AND (r.time_us <= s.start_us - {_DAY_US}
        OR (s.end_us IS NOT NULL AND r.time_us >= s.end_us + {_DAY_US}))
    GROUP BY s.stay HAVING count(*) >= {LEAST_BEYOND}"""


_QUERIES = {"day-in-hour": _DAY_IN_HOUR, "set-back": _SET_BACK, "outside": _OUTSIDE}
"""Queries of `stay` and `count` by kind; they read `charted` and `at_midnight`."""


def _sign(
    connection: duckdb.DuckDBPyConnection, kind: str, query: str, kept: int
) -> dict[str, Any]:
    """Return the sign of the stays that a query of `stay` and `count` gives."""
    stays, values, example = only_row(
        connection,
        f"SELECT count(*), coalesce(sum(q.count), 0), coalesce(arg_min(s.id, s.stay), '') "
        f"FROM ({query}) q JOIN stays s ON q.stay = s.stay",
    )
    return {"kind": kind, "stays": stays, "of": kept, "values": int(values), "example": example}


def _midnight(
    connection: duckdb.DuckDBPyConnection, mapping: SiteMapping, kept: int
) -> dict[str, Any]:
    """Return the sign of stays with many values at midnight, and create `at_midnight` of them.

    Times are in UTC here. Midnight is a quarter of an hour of UTC in every zone, so the fullest
    quarters of each stay are found first, and their local time then.
    """
    full = connection.execute(
        f"""
        WITH slots AS (
            SELECT m.stay, m.code, if((s.start_us + m.since_us) % {_SLOT_US} = 0,
                (s.start_us + m.since_us) % {_DAY_US} // {_SLOT_US}, -1) AS slot, count(*) AS count
            FROM measured m JOIN kept k ON m.stay = k.stay JOIN stays s ON m.stay = s.stay
            WHERE m.reason IS NULL GROUP BY ALL
        ), piles AS (
            SELECT stay, slot, sum(count) AS count,
                {MIDNIGHT_SHARE} * sum(sum(count)) OVER (PARTITION BY stay) AS least
            FROM slots GROUP BY stay, slot
            UNION ALL
            SELECT stay, slot, count, {CODE_SHARE} * sum(count) OVER (PARTITION BY stay, code)
            FROM slots
        ), full_slots AS (
            SELECT stay, slot, max(count) AS count FROM piles
            WHERE slot >= 0 AND count >= {LEAST_AT_MIDNIGHT} AND count >= least GROUP BY stay, slot
        )
        SELECT s.stay, s.id, f.count,
            s.start_us - s.start_us % {_DAY_US} + f.slot * {_SLOT_US} AS at_us
        FROM full_slots f JOIN stays s ON f.stay = s.stay
        ORDER BY s.stay"""
    ).df()
    is_offset = mapping.time.format[0] in OFFSETS
    zone = UTC_ZONE if is_offset else mapping.time.zone
    local = pd.to_datetime(full["at_us"], unit="us", utc=True).dt.tz_convert(zone)
    found = full[(local.dt.hour * 60 + local.dt.minute) == 0].drop_duplicates("stay")
    connection.register("midnight_frame", found[["stay"]])
    connection.execute("CREATE TEMP TABLE at_midnight AS SELECT stay FROM midnight_frame")
    connection.unregister("midnight_frame")
    return {
        "kind": "midnight",
        "stays": len(found),
        "of": kept,
        "values": int(found["count"].sum()),
        "example": str(found["id"].iloc[0]) if len(found) else "",
    }


def _too_long(connection: duckdb.DuckDBPyConnection, mapping: SiteMapping) -> dict[str, Any]:
    """Return the sign of stays left out as too long of which one pause is too long for a stay."""
    most_us = mapping.stay.max_days * _DAY_US
    (of,) = only_row(connection, "SELECT count(*) FROM stays")
    stays, values = only_row(
        connection,
        f"""
        WITH long AS (
            SELECT stay FROM measured WHERE reason IS NULL GROUP BY stay
            HAVING max(since_us) >= {most_us}
        ), pauses AS (
            SELECT m.stay, m.since_us - lag(m.since_us, 1, 0)
                OVER (PARTITION BY m.stay ORDER BY m.since_us) AS pause
            FROM measured m JOIN long l ON m.stay = l.stay WHERE m.reason IS NULL
        ), longest AS (
            SELECT stay, max(pause) AS pause, count(*) AS count FROM pauses GROUP BY stay
        )
        SELECT count(*), coalesce(sum(count), 0) FROM longest WHERE 2 * pause >= {most_us}""",
    )
    return {"kind": "too-long", "stays": stays, "of": of, "values": int(values), "example": ""}


def _zero_dates(connection: duckdb.DuckDBPyConnection, mapping: SiteMapping) -> dict[str, Any]:
    """Return the sign of patients, or encounters, with values at a computer's first day."""
    days = " OR ".join(
        # A local midnight is up to 14 hours away from that of UTC.
        f"abs(time_us - epoch_us(TIMESTAMP '{day}')) <= {14 * _HOUR_US}"
        for day in _ZERO_DATES
    )
    (of,) = only_row(connection, "SELECT count(*) FROM owners")
    stays, values = only_row(
        connection,
        "SELECT count(DISTINCT owner), coalesce(sum(copies), 0) FROM resolved "
        f"WHERE time_us IS NOT NULL AND ({days})",
    )
    counts = {"stays": stays, "of": of, "values": int(values), "example": ""}
    who = "encounters" if mapping.columns.encounter else "patients"
    return {"kind": "zero-date", "who": who, **counts}
