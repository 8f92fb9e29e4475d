"""Counts and signs of a wrong mapping that `ingest.json` keeps for `client check`: no ids.

Read from the tables of `client.ingest.stays` and `client.ingest.selection`.
"""

from __future__ import annotations

from typing import Any

import duckdb

from client.ingest.duckdb_helpers import only_row
from client.ingest.mapping import SiteMapping
from client.ingest.reshape import DROP_REASONS, reason
from client.ingest.sources.source import Source
from common.data.site_table import VITAL_NAMES
from common.data.step_means import MILLIONTHS

LEAD_HOURS = 14
"""Hours before a stay in which measurements are looked for: the most two clocks can differ by."""

_HOUR_US = 3_600_000_000


def unknown_rows(connection: duckdb.DuckDBPyConnection, sources: list[Source]) -> int:
    """Return the number of rows of long sources whose code is not in the mapping."""
    (known,) = only_row(connection, "SELECT count(*) FROM staged")
    return sum(source.rows for source in sources) - int(known)


def count_dropped(connection: duckdb.DuckDBPyConnection) -> dict[str, dict[str, int]]:
    """Count each vital's measurements: read, dropped by reason, and used.

    Returns:
        By vital: `read`, the `DROP_REASONS` that occur, and `used`; all but `read` sum up to it.
    """
    rows = connection.execute(
        f"""
        SELECT c.vital, CASE WHEN m.reason IS NULL AND k.stay IS NULL
                THEN {reason("in a stay left out")} ELSE m.reason END AS why,
            count(*), CAST(sum(m.copies - 1) AS BIGINT)
        FROM measured m JOIN codes c ON m.code = c.code LEFT JOIN kept k ON m.stay = k.stay
        GROUP BY ALL"""
    ).fetchall()
    counts: dict[str, dict[str, int]] = {}
    for index, name in enumerate(VITAL_NAMES):
        of_vital = [row for row in rows if row[0] == index]
        if not of_vital:
            continue
        dropped = {
            why: sum(row[2] for row in of_vital if row[1] == why)
            for why in range(len(DROP_REASONS))
        }
        dropped[reason("duplicate")] = sum(row[3] for row in of_vital)
        used = sum(row[2] for row in of_vital if row[1] is None)
        counts[name] = {
            "read": sum(dropped.values()) + used,
            **{DROP_REASONS[why]: count for why, count in dropped.items() if count},
            "used": used,
        }
    return counts


def read_signs(connection: duckdb.DuckDBPyConnection, mapping: SiteMapping) -> dict[str, Any]:
    """Return signs of a wrong unit, a wrong time zone and overlapping stays.

    Args:
        connection: has the tables of `stays.assign_stays` and `selection.keep_stays`.
        mapping: the mapping of the ingest.

    Returns:
        `impossible_median` (by vital), `overlapping_stays` (of those kept), and, if stays have an
        admission, `early`: the `share` of stays with measurements in the `LEAD_HOURS` before it,
        and the median lead of the first of them in `hours`.
    """
    signs: dict[str, Any] = {
        "impossible_median": _impossible_medians(connection),
        "overlapping_stays": _overlapping(connection),
    }
    if mapping.stay.start:
        signs["early"] = _early(connection, by_key=not mapping.has_stay_table)
    return signs


def _impossible_medians(connection: duckdb.DuckDBPyConnection) -> dict[str, float]:
    """Return, by vital, the median of the impossible values, which reveals a wrong unit."""
    rows = connection.execute(
        f"""
        SELECT c.vital, quantile_disc(m.scaled, 0.5) / {MILLIONTHS}
        FROM measured m JOIN codes c ON m.code = c.code
        WHERE m.reason = {reason("impossible value")} AND m.scaled IS NOT NULL GROUP BY c.vital"""
    ).fetchall()
    return {VITAL_NAMES[index]: round(float(median), 3) for index, median in sorted(rows)}


def _overlapping(connection: duckdb.DuckDBPyConnection) -> int:
    (count,) = only_row(
        connection,
        """
        WITH spans AS (
            SELECT s.patient, s.start_us, max(s.start_us + m.since_us) AS until
            FROM measured m JOIN kept k ON m.stay = k.stay JOIN stays s ON m.stay = s.stay
            WHERE m.reason IS NULL GROUP BY s.stay, s.patient, s.start_us
        )
        SELECT count(*) FROM (
            SELECT start_us < max(until) OVER (
                PARTITION BY patient ORDER BY start_us, until
                ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS is_within
            FROM spans) WHERE is_within""",
    )
    return int(count)


def _early(connection: duckdb.DuckDBPyConnection, *, by_key: bool) -> dict[str, float]:
    found = "r.stay = s.stay" if by_key else "r.patient = s.patient"
    # Hours that belong to the stay before do not count: a transfer is not an error.
    share, lead = only_row(
        connection,
        f"""
        WITH bounded AS (
            SELECT stay, patient, start_us, coalesce(
                lag(before_us) OVER (PARTITION BY patient ORDER BY start_us, stay), 0) AS free_us
            FROM stays WHERE start_us IS NOT NULL
        ), early AS (
            SELECT s.stay, max(s.start_us - r.time_us) / {_HOUR_US} AS hours
            FROM resolved r JOIN bounded s ON {found}
                AND r.time_us < s.start_us AND r.time_us >= s.start_us - {LEAD_HOURS * _HOUR_US}
                AND r.time_us >= s.free_us
            WHERE r.reason IS NULL GROUP BY s.stay
        )
        SELECT count(*) / greatest((SELECT count(*) FROM bounded), 1),
            coalesce(quantile_disc(hours, 0.5), 0) FROM early""",
    )
    return {"share": round(share, 4), "hours": round(lead, 2)}
