"""Stays in which the values of a code or column are those of another unit, counted at the ingest.

Of impossible values the site table knows nothing, and a mean of cuff and line hides that one of
them is in kPa: both are seen here, where each value is still there with its code.
"""

from __future__ import annotations

from typing import Any

import duckdb

from client.data_quality.stay_checks.other_units import LEAST_VALUES, USUAL_SHARE, usual_range
from client.ingest.duckdb_helpers import create_table
from client.ingest.reshape.drop_reasons import reason
from client.ingest.units import UNITS
from common.data.step_means import MILLIONTHS
from common.data.vitals import VITAL_NAMES, VITALS
from common.forecasting.reference_ranges import EXPECTED


def count_stays_in_other_units(connection: duckdb.DuckDBPyConnection) -> list[dict[str, Any]]:
    """Count the stays by code with values that are plausible only in another unit.

    Args:
        connection: has the tables of `signs.count_other_units`, `stays.assign_stays` and
            `selection.keep_stays`.

    Returns:
        A sign per vital, code and unit: `kind` (``unit``), `vital`, `source` (the code or the
        column), `unit`, `assumed`, `stays`, `of` (all stays), `of_source` (stays that have the
        code), `values`, `dropped` (those of them that are impossible) and `example` (the id of one
        stay).
    """
    _create_usual(connection)
    rows = connection.execute(
        f"""
        WITH odd AS (
            SELECT m.stay, m.code, c.vital, c.text, a.name AS assumed, m.reason,
                m.scaled / {MILLIONTHS} * a.divide / a.multiply + a.subtract AS number
            FROM measured m JOIN kept k ON m.stay = k.stay
            JOIN codes c ON m.code = c.code AND c.units = ''
            JOIN assumed a ON a.vital = c.vital AND a.unit = c.unit
            WHERE (m.reason IS NULL OR m.reason = {reason("impossible value")})
                AND ({implausible_sql()})
        ), of_stay AS (
            SELECT o.stay, o.code, o.vital, o.text, o.assumed, p.unit, count(*) AS count,
                count(*) FILTER (o.reason IS NOT NULL) AS dropped,
                count(*) FILTER (o.number BETWEEN p.usual_low AND p.usual_high) AS usual
            FROM odd o JOIN usual p ON p.vital = o.vital AND p.unit <> o.assumed
                AND o.number BETWEEN p.low AND p.high
            GROUP BY ALL
        ), found AS (
            SELECT vital, code, text, unit, assumed, count(*) AS stays, sum(count) AS count,
                sum(dropped) AS dropped, min(stay) AS stay
            FROM of_stay WHERE count >= {LEAST_VALUES} AND usual >= {USUAL_SHARE} * count
            GROUP BY ALL
        ), sources AS (
            SELECT m.code, count(DISTINCT m.stay) AS stays
            FROM measured m JOIN kept k ON m.stay = k.stay
            WHERE m.code IN (SELECT code FROM found) GROUP BY m.code
        )
        SELECT f.vital, f.text, f.unit, f.assumed, f.stays, (SELECT count(*) FROM kept), s.stays,
            f.count, f.dropped, e.id
        FROM found f JOIN sources s ON f.code = s.code JOIN stays e ON f.stay = e.stay
        ORDER BY f.vital, f.count DESC, f.text, f.unit"""
    ).fetchall()
    connection.execute("DROP TABLE usual")
    return [
        {
            "kind": "unit",
            "vital": VITAL_NAMES[vital],
            "source": source,
            "unit": unit,
            "assumed": assumed,
            "stays": stays,
            "of": of,
            "of_source": of_source,
            "values": int(values),
            "dropped": int(dropped),
            "example": example,
        }
        for vital, source, unit, assumed, stays, of, of_source, values, dropped, example in rows
    ]


def _create_usual(connection: duckdb.DuckDBPyConnection) -> None:
    """Create `usual`: the plausible and the usual values of each vital sign in each unit."""
    rows: list[tuple[object, ...]] = []
    for index, vital in enumerate(VITALS):
        expected = EXPECTED[vital.name]
        for unit in UNITS[vital.name]:
            limits = (expected.low, expected.high, *usual_range(vital.name))
            rows.append((index, unit.name, *map(unit.invert, limits)))
    columns = (
        "vital UTINYINT, unit VARCHAR, low DOUBLE, high DOUBLE, usual_low DOUBLE, usual_high DOUBLE"
    )
    create_table(connection, "usual", columns, rows)


def implausible_sql() -> str:
    """Return the SQL condition that a value of `measured m` and `codes c` is implausible."""
    return " OR ".join(
        f"(c.vital = {VITAL_NAMES.index(name)} AND (m.scaled < {one.low * MILLIONTHS:.0f} "
        f"OR m.scaled > {one.high * MILLIONTHS:.0f}))"
        for name, one in EXPECTED.items()
    )
