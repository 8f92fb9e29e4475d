"""Charted vital signs of patients' stays: cleaned, then averaged per time step.

For sources that chart each value as a row with the patient, an item and a time: MIMIC and MEDS.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import duckdb
import pandas as pd

from client.ingest.units import Unit, unit_ranges
from common.data.step_means import MILLIONTHS, step_means
from common.data.vitals import VITAL_NAMES
from common.errors import UsageError

DROPPED_REASONS: tuple[str, ...] = (
    "duplicate",
    "error flag",
    "no number",
    "impossible value",
    "outside every kept stay",
)
"""Reasons to drop a measurement; the first that applies, in this order, is counted. Of several
equal rows (same patient, item, time, value and error flag) all but one are duplicates, even if that
one is dropped."""


@dataclass(frozen=True)
class ChartedItem:
    """An item under which a vital sign is charted.

    Attributes:
        item: its number.
        vital: name of the vital sign.
        unit: unit of its values.
        low: possible values are above this, in `unit`.
        high: possible values are below this, or at most this where `high_included`.
        high_included: see `high`.
    """

    item: int
    vital: str
    unit: Unit
    low: float
    high: float
    high_included: bool


def charted_item(
    item: int, vital: str, unit: str, low: float | None = None, high: float | None = None
) -> ChartedItem:
    """Return an item of a vital sign.

    Args:
        item: its number.
        vital: name of the vital sign.
        unit: a spelling of a unit of that vital sign, see `client.ingest.units.UNITS`.
        low: possible values are above this, in that unit; None = the site table's limit.
        high: possible values are below this, in that unit; None = the site table's limit.

    Raises:
        UsageError: the vital sign has no such unit.
    """
    (limits,) = unit_ranges(vital, [unit])
    return ChartedItem(
        item,
        vital,
        limits.unit,
        limits.low if low is None else low,
        limits.high if high is None else high,
        high_included=limits.high_included and high is None,
    )


def charted_vitals(
    connection: duckdb.DuckDBPyConnection,
    stays: str,
    events: str,
    items: Sequence[ChartedItem],
    step_minutes: int,
) -> tuple[pd.DataFrame, dict[str, int]]:
    """Clean the charted vital signs and average them per stay and time step.

    A measurement belongs to the stay of its patient whose [start, end] contains its time; a moment
    that ends one stay and starts the next is in the next.

    Args:
        connection: where the queries run.
        stays: a query of the stays to keep: `subject_id`, `stay_id` (of any type), `intime`, and
            `until`, the end (NULL = not known).
        events: a query of charted values: `subject_id`, `itemid`, `charttime`, `valuenum` and
            `is_error`. Items that are not among `items` are ignored.
        items: the items of the vital signs.
        step_minutes: length of a step; step = floor((charttime - intime) / step length).

    Returns:
        The means, one row per stay and step with any measurement: `patient_id` and `stay_id` (str),
        `step` (int32) and the vitals (float32, NaN where not measured), sorted by these keys; and
        the number of measurements dropped, by `DROPPED_REASONS`.

    Raises:
        UsageError: `step_minutes` is less than 1.
    """
    if step_minutes < 1:
        raise UsageError(f"the step length must be at least 1 minute, got {step_minutes}")
    _create_items(connection, items)
    _create_stays(connection, stays)
    connection.execute(f"CREATE OR REPLACE TEMP TABLE vital_measurements AS {_measured(events)}")
    dropped = _count_dropped(connection)
    frame = _means(connection, step_minutes)
    for name in ("vital_measurements", "vital_stays", "vital_items"):
        connection.execute(f"DROP TABLE {name}")
    return frame, dropped


def _create_items(connection: duckdb.DuckDBPyConnection, items: Sequence[ChartedItem]) -> None:
    rows = [
        (
            *(one.item, VITAL_NAMES.index(one.vital)),
            *(one.unit.subtract, one.unit.multiply, one.unit.divide),
            *(one.low, one.high, one.high_included),
        )
        for one in items
    ]
    connection.execute(
        "CREATE OR REPLACE TEMP TABLE vital_items (itemid INTEGER, vital TINYINT, "
        "subtract DOUBLE, multiply DOUBLE, divide DOUBLE, "
        "low DOUBLE, high DOUBLE, high_included BOOLEAN)"
    )
    connection.executemany("INSERT INTO vital_items VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows)


def _create_stays(connection: duckdb.DuckDBPyConnection, stays: str) -> None:
    """Create `vital_stays`: each stay's exclusive end `before`, so that stays do not overlap."""
    connection.execute(
        f"""
        CREATE OR REPLACE TEMP TABLE vital_stays AS
        SELECT subject_id, stay_id, intime::TIMESTAMP AS intime,
            coalesce(
                least(
                    until + INTERVAL 1 MICROSECOND,
                    lead(intime::TIMESTAMP) OVER (PARTITION BY subject_id ORDER BY intime, stay_id)
                ),
                TIMESTAMP 'infinity'
            ) AS before
        FROM ({stays})"""
    )


def _measured(events: str) -> str:
    """Return the query of distinct measurements: value in millionths, or reason to drop it."""
    return f"""
        WITH distinct_rows AS (
            SELECT c.subject_id, c.itemid, c.charttime, c.valuenum, c.is_error, count(*) AS copies
            FROM ({events}) c WHERE c.itemid IN (SELECT itemid FROM vital_items)
            GROUP BY ALL
        )
        SELECT s.stay_id, epoch_us(d.charttime) - epoch_us(s.intime) AS since_us, i.vital,
            d.copies,
            CASE
                WHEN d.is_error THEN 'error flag'
                WHEN d.valuenum IS NULL OR isnan(d.valuenum) THEN 'no number'
                WHEN NOT (d.valuenum > i.low AND (
                    d.valuenum < i.high OR (i.high_included AND d.valuenum = i.high)
                )) THEN 'impossible value'
                WHEN s.stay_id IS NULL THEN 'outside every kept stay'
            END AS reason,
            CASE WHEN reason IS NULL THEN round(
                {MILLIONTHS} * ((d.valuenum - i.subtract) * i.multiply / i.divide)
            )::BIGINT END AS scaled
        FROM distinct_rows d
        JOIN vital_items i USING (itemid)
        LEFT JOIN vital_stays s ON d.subject_id = s.subject_id
            AND d.charttime >= s.intime AND d.charttime < s.before
    """


def _count_dropped(connection: duckdb.DuckDBPyConnection) -> dict[str, int]:
    rows = connection.execute(
        """
        SELECT reason, count(*) FROM vital_measurements WHERE reason IS NOT NULL GROUP BY reason
        UNION ALL
        SELECT 'duplicate', coalesce(sum(copies - 1), 0)::BIGINT FROM vital_measurements
        """
    ).fetchall()
    counts = dict(rows)
    return {reason: counts.get(reason, 0) for reason in DROPPED_REASONS}


def _means(connection: duckdb.DuckDBPyConnection, step_minutes: int) -> pd.DataFrame:
    measurements = (
        "SELECT stay_id AS stay, since_us, vital, 0 AS rank, scaled "
        "FROM vital_measurements WHERE reason IS NULL"
    )
    means = step_means(connection, measurements, step_minutes)
    ids = connection.execute(
        "SELECT stay_id AS stay, subject_id::VARCHAR AS patient_id, "
        "stay_id::VARCHAR AS stay_id FROM vital_stays ORDER BY patient_id, stay_id"
    ).df()
    return ids.merge(means, on="stay").drop(columns="stay")
