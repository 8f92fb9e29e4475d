"""Vital signs of MIMIC-III: item ids, units, errors, duplicates, and means per time step.

Item ids and ranges are those of MIT-LCP/mimic-code's `pivoted_vital`. Added are 225309 and 225310,
systolic and diastolic pressure of the arterial line ("ART BP"), of which it has only the mean,
225312: without them the three pressures would be of different moments.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from common.data.site_table import VITALS, Vital
from common.data.step_means import MILLIONTHS, step_means
from common.errors import UsageError
from simulation.cohorts.source_tables import SourceTables


@dataclass(frozen=True)
class VitalItems:
    """ITEMIDs of a vital sign in CHARTEVENTS.

    Attributes:
        carevue: ids of the record system used until 2008.
        metavision: ids of its successor.
        fahrenheit: those of them in degrees Fahrenheit.
    """

    carevue: tuple[int, ...]
    metavision: tuple[int, ...]
    fahrenheit: tuple[int, ...] = ()

    @property
    def all(self) -> tuple[int, ...]:
        """Ids of both systems."""
        return self.carevue + self.metavision


ITEMS_OF_VITAL: Mapping[str, VitalItems] = {
    "heart_rate": VitalItems((211,), (220045,)),
    "sbp": VitalItems((51, 6701, 455, 442), (220050, 225309, 220179)),
    "dbp": VitalItems((8368, 8555, 8441, 8440), (220051, 225310, 220180)),
    "mbp": VitalItems((52, 6702, 456, 443), (220052, 225312, 220181)),
    "resp_rate": VitalItems((618, 615), (220210, 224690)),
    "temperature_c": VitalItems((678, 676), (223761, 223762), fahrenheit=(678, 223761)),
    "spo2": VitalItems((646,), (220277,)),
}
"""Items of each vital sign, by its name."""

VITAL_ITEMS: frozenset[int] = frozenset(
    item for items in ITEMS_OF_VITAL.values() for item in items.all
)

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

_FAHRENHEIT_RANGE = (70, 120)


def hourly_vitals(
    tables: SourceTables, stays: str, chartevents: str, step_minutes: int
) -> tuple[pd.DataFrame, dict[str, int]]:
    """Clean the charted vital signs and average them per stay and time step.

    A measurement belongs to the stay of its patient whose [INTIME, OUTTIME] contains its time, even
    if its ICUSTAY_ID is empty or different; a moment that ends one stay and starts the next is in
    the next. A stay without OUTTIME ends at the patient's next ICU stay or the hospital discharge,
    whichever is earlier: otherwise it would include charts of years later.

    Args:
        tables: the MIMIC-III folder; ICUSTAYS and ADMISSIONS are read if an OUTTIME is empty.
        stays: a DuckDB table of the stays to keep: `subject_id`, `icustay_id`, `intime`, `outtime`.
        chartevents: a DuckDB table with the CHARTEVENTS rows of `VITAL_ITEMS` (others are
            ignored) of these patients: `subject_id`, `itemid`, `charttime`, `valuenum`, `error`.
        step_minutes: length of a step; step = floor((CHARTTIME - INTIME) / step length).

    Returns:
        The means, one row per stay and step with any measurement: `patient_id` and `stay_id` (str),
        `step` (int32) and the vitals (float32, NaN where not measured), sorted by these keys; and
        the number of measurements dropped, by `DROPPED_REASONS`.

    Raises:
        SourceError: an OUTTIME is empty and ADMISSIONS or ICUSTAYS is missing.
        UsageError: `step_minutes` is less than 1.
    """
    if step_minutes < 1:
        raise UsageError(f"the step length must be at least 1 minute, got {step_minutes}")
    connection = tables.connection
    _create_items(tables)
    _create_bounded_stays(tables, stays)
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE vital_measurements AS {_measurements(chartevents)}"
    )
    dropped = _count_dropped(tables)
    frame = _means(tables, step_minutes)
    for name in ("vital_measurements", "vital_stays", "vital_items"):
        connection.execute(f"DROP TABLE {name}")
    return frame, dropped


def _create_items(tables: SourceTables) -> None:
    rows = [
        (item, index, *_range(vital, items, item))
        for index, vital in enumerate(VITALS)
        for items in (ITEMS_OF_VITAL[vital.name],)
        for item in items.all
    ]
    tables.connection.execute(
        "CREATE OR REPLACE TEMP TABLE vital_items (itemid INTEGER, vital TINYINT, "
        "is_fahrenheit BOOLEAN, low DOUBLE, high DOUBLE, high_included BOOLEAN)"
    )
    tables.connection.executemany("INSERT INTO vital_items VALUES (?, ?, ?, ?, ?, ?)", rows)


def _range(vital: Vital, items: VitalItems, item: int) -> tuple[bool, float, float, bool]:
    if item in items.fahrenheit:
        return (True, *_FAHRENHEIT_RANGE, False)
    return (False, vital.low, vital.high, vital.high_included)


def _create_bounded_stays(tables: SourceTables, stays: str) -> None:
    """Create `vital_stays`: each stay's exclusive end `before`, so that stays do not overlap."""
    connection = tables.connection
    open_ended = f"SELECT count(*) FROM {stays} WHERE outtime IS NULL"
    if connection.execute(open_ended).fetchall() == [(0,)]:
        ends = f"SELECT icustay_id, outtime::TIMESTAMP AS until FROM {stays}"
    else:
        icustays = tables.load("ICUSTAYS", "the end of ICU stays without OUTTIME")
        admissions = tables.load("ADMISSIONS", "the end of ICU stays without OUTTIME")
        # least() ignores NULL: if one bound is missing, the other counts.
        ends = f"""
            SELECT s.icustay_id,
                coalesce(s.outtime::TIMESTAMP, least(b.next_intime, b.dischtime)) AS until
            FROM {stays} s LEFT JOIN (
                SELECT i.icustay_id, a.dischtime,
                    lead(i.intime) OVER (PARTITION BY i.subject_id ORDER BY i.intime, i.icustay_id)
                    AS next_intime
                FROM {icustays} i LEFT JOIN {admissions} a USING (hadm_id)
            ) b USING (icustay_id)"""
    connection.execute(
        f"""
        CREATE OR REPLACE TEMP TABLE vital_stays AS
        SELECT s.subject_id, s.icustay_id, s.intime::TIMESTAMP AS intime,
            coalesce(
                least(
                    e.until + INTERVAL 1 MICROSECOND,
                    lead(s.intime::TIMESTAMP)
                        OVER (PARTITION BY s.subject_id ORDER BY s.intime, s.icustay_id)
                ),
                TIMESTAMP 'infinity'
            ) AS before
        FROM {stays} s JOIN ({ends}) e USING (icustay_id)"""
    )


def _measurements(chartevents: str) -> str:
    """Return the query of distinct measurements: value in millionths, or reason to drop it."""
    return f"""
        WITH distinct_rows AS (
            SELECT c.subject_id, c.itemid, c.charttime, c.valuenum,
                coalesce(c.error, 0) = 1 AS is_error, count(*) AS copies
            FROM {chartevents} c WHERE c.itemid IN (SELECT itemid FROM vital_items)
            GROUP BY ALL
        )
        SELECT s.icustay_id, epoch_us(d.charttime) - epoch_us(s.intime) AS since_us, i.vital,
            d.copies,
            CASE
                WHEN d.is_error THEN 'error flag'
                WHEN d.valuenum IS NULL OR isnan(d.valuenum) THEN 'no number'
                WHEN NOT (d.valuenum > i.low AND (
                    d.valuenum < i.high OR (i.high_included AND d.valuenum = i.high)
                )) THEN 'impossible value'
                WHEN s.icustay_id IS NULL THEN 'outside every kept stay'
            END AS reason,
            CASE WHEN reason IS NULL THEN round({MILLIONTHS} * (
                CASE WHEN i.is_fahrenheit THEN (d.valuenum - 32) / 1.8 ELSE d.valuenum END
            ))::BIGINT END AS scaled
        FROM distinct_rows d
        JOIN vital_items i USING (itemid)
        LEFT JOIN vital_stays s ON d.subject_id = s.subject_id
            AND d.charttime >= s.intime AND d.charttime < s.before
    """


def _count_dropped(tables: SourceTables) -> dict[str, int]:
    rows = tables.connection.execute(
        """
        SELECT reason, count(*) FROM vital_measurements WHERE reason IS NOT NULL GROUP BY reason
        UNION ALL
        SELECT 'duplicate', coalesce(sum(copies - 1), 0)::BIGINT FROM vital_measurements
        """
    ).fetchall()
    counts = dict(rows)
    return {reason: counts.get(reason, 0) for reason in DROPPED_REASONS}


def _means(tables: SourceTables, step_minutes: int) -> pd.DataFrame:
    measurements = (
        "SELECT icustay_id AS stay, since_us, vital, 0 AS rank, scaled "
        "FROM vital_measurements WHERE reason IS NULL"
    )
    means = step_means(tables.connection, measurements, step_minutes)
    ids = tables.connection.execute(
        "SELECT icustay_id AS stay, subject_id::VARCHAR AS patient_id, "
        "icustay_id::VARCHAR AS stay_id FROM vital_stays ORDER BY patient_id, stay_id"
    ).df()
    return ids.merge(means, on="stay").drop(columns="stay")
