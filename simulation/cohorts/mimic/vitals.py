"""Vital signs of MIMIC: item ids, units, and means per time step.

Item ids and ranges are those of MIT-LCP/mimic-code's `pivoted_vital` (MIMIC-III) and `vitalsign`
(MIMIC-IV). Added are 225309 and 225310, systolic and diastolic pressure of the arterial line ("ART
BP"), of which they have only the mean, 225312: without them the three pressures would be of
different moments. MIMIC-IV has the items of MetaVision alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from client.ingest.units import UNITS
from simulation.cohorts.charted_vitals import ChartedItem, charted_item, charted_vitals
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
METAVISION_ITEMS: frozenset[int] = frozenset(
    item for items in ITEMS_OF_VITAL.values() for item in items.metavision
)

_FAHRENHEIT_RANGE = (70.0, 120.0)


def hourly_vitals(
    tables: SourceTables, stays: str, chartevents: str, step_minutes: int
) -> tuple[pd.DataFrame, dict[str, int]]:
    """Clean the charted vital signs and average them per stay and time step.

    A measurement belongs to the stay of its patient whose [INTIME, OUTTIME] contains its time, even
    if its own stay id is empty or different. A stay without OUTTIME ends at the patient's next ICU
    stay or the hospital discharge, whichever is earlier: otherwise it would include charts of years
    later.

    Args:
        tables: the folder of MIMIC tables; ICUSTAYS and ADMISSIONS are read if an OUTTIME is empty.
        stays: a DuckDB table of the stays to keep: `subject_id`, `stay_id`, `intime`, `outtime`.
        chartevents: a DuckDB table with the CHARTEVENTS rows of `VITAL_ITEMS` (others are
            ignored) of these patients: `subject_id`, `itemid`, `charttime`, `valuenum`, and `error`
            where the layout has it.
        step_minutes: length of a step; step = floor((CHARTTIME - INTIME) / step length).

    Returns:
        As `simulation.cohorts.charted_vitals.charted_vitals`.

    Raises:
        SourceError: an OUTTIME is empty and ADMISSIONS or ICUSTAYS is missing.
        UsageError: `step_minutes` is less than 1.
    """
    has_flag = "error" in tables.layout.columns["CHARTEVENTS"]
    flag = "coalesce(error, 0) = 1" if has_flag else "false"
    events = (
        f"SELECT subject_id, itemid, charttime, valuenum, {flag} AS is_error FROM {chartevents}"
    )
    return charted_vitals(
        tables.connection, _with_ends(tables, stays), events, _items(), step_minutes
    )


def _items() -> list[ChartedItem]:
    return [
        charted_item(item, vital, "degF", *_FAHRENHEIT_RANGE)
        if item in items.fahrenheit
        else charted_item(item, vital, UNITS[vital][0].name)
        for vital, items in ITEMS_OF_VITAL.items()
        for item in items.all
    ]


def _with_ends(tables: SourceTables, stays: str) -> str:
    """Return the query of the stays with their ends, `until`."""
    connection = tables.connection
    open_ended = f"SELECT count(*) FROM {stays} WHERE outtime IS NULL"
    if connection.execute(open_ended).fetchall() == [(0,)]:
        return f"SELECT subject_id, stay_id, intime, outtime::TIMESTAMP AS until FROM {stays}"
    icustays = tables.load("ICUSTAYS", "the end of ICU stays without OUTTIME")
    admissions = tables.load("ADMISSIONS", "the end of ICU stays without OUTTIME")
    # least() ignores NULL: if one bound is missing, the other counts.
    return f"""
        SELECT s.subject_id, s.stay_id, s.intime,
            coalesce(s.outtime::TIMESTAMP, least(b.next_intime, b.dischtime)) AS until
        FROM {stays} s LEFT JOIN (
            SELECT i.stay_id, a.dischtime,
                lead(i.intime) OVER (PARTITION BY i.subject_id ORDER BY i.intime, i.stay_id)
                AS next_intime
            FROM {icustays} i LEFT JOIN {admissions} a USING (hadm_id)
        ) b USING (stay_id)"""
