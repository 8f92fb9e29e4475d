"""Signs of a wrong mapping that `ingest.json` keeps for `client check`: no ids.

Read from the tables of `client.ingest.stays.assignment` and `client.ingest.stays.selection`.
"""

from __future__ import annotations

from typing import Any

import duckdb

from client.ingest.diagnostics.stay_times import count_stays_with_odd_times
from client.ingest.diagnostics.stay_units import count_stays_in_other_units, implausible_sql
from client.ingest.duckdb_helpers import create_table, number_in, only_row
from client.ingest.mapping.site_mapping import SiteMapping
from client.ingest.reshape.drop_reasons import reason
from client.ingest.units import UNITS, check_unit, normalised, unit_ranges
from common.data.step_means import MILLIONTHS
from common.data.vitals import VITAL_NAMES, VITALS

LEAD_HOURS = 14
"""Hours before a stay in which measurements are looked for: the most two clocks can differ by."""

_HOUR_US = 3_600_000_000


def read_signs(connection: duckdb.DuckDBPyConnection, mapping: SiteMapping) -> dict[str, Any]:
    """Return signs of a wrong unit, a wrong time zone, overlapping stays and ids not of patients.

    Args:
        connection: has the tables of `count_other_units`, `stays.assign_stays` and
            `selection.keep_stays`.
        mapping: the mapping of the ingest.

    Returns:
        `impossible_median` (by vital); `other_units` (by vital: see `_other_units`);
        `overlapping_stays` (of those kept); `by_stay`, a list of what `stay_units` and `stay_times`
        count; `ids`: the `patients` and `stays` of the source, and
        whether both ids are from the `same_column`; and, if stays have an admission, `early`: the
        `share` of stays with measurements in the `LEAD_HOURS` before it, and the median lead of
        the first of them in `hours`.
    """
    signs: dict[str, Any] = {
        "impossible_median": _impossible_medians(connection),
        "other_units": _other_units(connection),
        "overlapping_stays": 0 if mapping.has_own_clocks else _overlapping(connection),
        "by_stay": [
            *count_stays_in_other_units(connection),
            *count_stays_with_odd_times(connection, mapping),
        ],
        "ids": _ids(connection, mapping),
    }
    # Offsets have no zone, and those before an admission are known to be.
    if mapping.stay.start and not mapping.time.is_offset:
        signs["early"] = _early(connection, by_key=not mapping.has_stay_table)
    return signs


def count_other_units(connection: duckdb.DuckDBPyConnection, mapping: SiteMapping) -> None:
    """Create `other_units`, of impossible values of `staged` that are plausible in another unit.

    Its columns: `vital`, `unit` (the other one), `assumed` (the one they were read in), `count`.
    """
    rows = [
        (index, one.unit.name, one.plausible_low, one.plausible_high)
        for index, vital in enumerate(VITALS)
        for one in unit_ranges(vital.name, [unit.name for unit in UNITS[vital.name]])
    ]
    create_table(
        connection, "plausible", "vital UTINYINT, unit VARCHAR, low DOUBLE, high DOUBLE", rows
    )
    # By its name in messages; a source that mixes units already reads each value by its range.
    names: list[tuple[object, ...]] = []
    for vital_mapping in mapping.vitals:
        for source in vital_mapping.sources:
            if not source.units:
                own = UNITS[vital_mapping.name][0]
                unit = check_unit(vital_mapping.name, source.unit) if source.unit else own
                index = VITAL_NAMES.index(vital_mapping.name)
                names.append((index, normalised(source.unit), unit.name))
                names[-1] += (unit.subtract, unit.multiply, unit.divide)
    create_table(
        connection,
        "assumed",
        "vital UTINYINT, unit VARCHAR, name VARCHAR, subtract DOUBLE, multiply DOUBLE, "
        "divide DOUBLE",
        list(dict.fromkeys(names)) or [(len(VITALS), "", "", 0.0, 1.0, 1.0)],
    )
    connection.execute(
        f"""
        CREATE TABLE other_units AS
        SELECT c.vital, p.unit, a.name AS assumed, count(*) AS count
        FROM (
            SELECT code, {number_in("note", mapping.file.decimal)} AS number
            FROM staged WHERE reason = {reason("impossible value")}
        ) s JOIN codes c ON s.code = c.code AND c.units = ''
        JOIN assumed a ON a.vital = c.vital AND a.unit = c.unit
        JOIN plausible p ON p.vital = c.vital AND p.unit <> a.name
            AND s.number BETWEEN p.low AND p.high
        GROUP BY ALL"""
    )


def _other_units(connection: duckdb.DuckDBPyConnection) -> dict[str, dict[str, Any]]:
    """Return, by vital, values that are plausible only in another unit than the one assumed.

    Returns:
        The `unit` that most of them fit, the unit that was `assumed`, and the numbers of
        `impossible` and of `used` values that fit it.
    """
    rows = connection.execute(
        f"""
        SELECT vital, unit, assumed, sum(count) FILTER (NOT is_used),
            sum(count) FILTER (is_used) FROM (
            SELECT vital, unit, assumed, count, false AS is_used FROM other_units UNION ALL
            SELECT c.vital, p.unit, a.name, count(*), true
            FROM measured m JOIN codes c ON m.code = c.code AND c.units = ''
            JOIN assumed a ON a.vital = c.vital AND a.unit = c.unit
            JOIN plausible p ON p.vital = c.vital AND p.unit <> a.name
                AND m.scaled / {MILLIONTHS} * a.divide / a.multiply + a.subtract
                    BETWEEN p.low AND p.high
            WHERE m.reason IS NULL AND ({implausible_sql()}) GROUP BY ALL
        ) GROUP BY ALL ORDER BY vital, sum(count) DESC, unit, assumed"""
    ).fetchall()
    found: dict[str, dict[str, Any]] = {}
    for index, unit, assumed, impossible, used in rows:
        numbers = {"impossible": int(impossible or 0), "used": int(used or 0)}
        found.setdefault(VITAL_NAMES[index], {"unit": unit, "assumed": assumed, **numbers})
    return found


def _ids(connection: duckdb.DuckDBPyConnection, mapping: SiteMapping) -> dict[str, Any]:
    patients, stays = only_row(
        connection, "SELECT count(DISTINCT patient), count(*) FROM stays WHERE start_us IS NOT NULL"
    )
    patient = mapping.stay.patient or mapping.columns.patient
    is_same = bool(mapping.stay.id) and patient.lower() == mapping.stay.id.lower()
    return {"patients": patients, "stays": stays, "same_column": is_same}


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
    found = "r.stay = s.stay" if by_key else "r.owner = s.owner"
    # Hours that belong to the stay before do not count: a transfer is not an error.
    share, lead = only_row(
        connection,
        f"""
        WITH bounded AS (
            SELECT stay, owner, start_us, coalesce(
                lag(before_us) OVER (PARTITION BY owner ORDER BY start_us, stay), 0) AS free_us
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
