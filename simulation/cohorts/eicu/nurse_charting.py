"""Temperatures and pressures that nurses charted, a row a value, summed per time step.

Labels and names are those of MIT-LCP/eicu-code, `concepts/pivoted/pivoted-vital.sql`. That concept
skips temperatures in °F, the only ones of a third of the demo's stays; here they are converted.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from common.data.step_means import MILLIONTHS, MINUTE_US, step_sums
from common.data.vitals import VITAL_NAMES, VITALS
from common.files.hashing import ReadProgress
from simulation.cohorts.eicu.monitor_values import impossible
from simulation.cohorts.eicu.stay_rows import DUPLICATE, STAYS, StayFilter, outside_the_stay
from simulation.cohorts.source_tables import SourceTables

TABLE = "nurseCharting"
NO_NUMBER = "no number"
OTHER_SCALE = "temperature in the other scale than its name"

RANK_INVASIVE = 1
RANK_CUFF = 3
_FAHRENHEIT_RANGE = (70, 120)


@dataclass(frozen=True)
class NurseItem:
    """A label and name under which a vital sign is charted."""

    label: str
    name: str
    vital: str
    rank: int
    fahrenheit: bool = False


def _pressures(label: str, rank: int) -> tuple[NurseItem, ...]:
    kinds = {"Systolic": "sbp", "Diastolic": "dbp", "Mean": "mbp"}
    return tuple(NurseItem(label, f"{label} {kind}", vital, rank) for kind, vital in kinds.items())


ITEMS: tuple[NurseItem, ...] = (
    NurseItem("Temperature", "Temperature (C)", "temperature_c", RANK_INVASIVE),
    NurseItem("Temperature", "Temperature (F)", "temperature_c", RANK_INVASIVE, True),
    *_pressures("Invasive BP", RANK_INVASIVE),
    NurseItem("MAP (mmHg)", "Value", "mbp", RANK_INVASIVE),
    NurseItem("Arterial Line MAP (mmHg)", "Value", "mbp", RANK_INVASIVE),
    *_pressures("Non-Invasive BP", RANK_CUFF),
)


def stream_nurse_charting(
    tables: SourceTables, stays: Collection[int], progress: ReadProgress | None = None
) -> None:
    """Read nurseCharting once and keep the rows of the chosen stays and of `ITEMS`.

    Args:
        tables: the eICU tables.
        stays: the `patientunitstayid` to keep.
        progress: called with the bytes of the file read so far and its size.

    Raises:
        SourceError: the table or a column is missing, or the file is damaged.
    """
    stay_filter = StayFilter(stays)
    labels = pa.array(sorted({item.label for item in ITEMS}))

    def keep(batch: pa.RecordBatch) -> pa.RecordBatch:
        batch = batch.filter(pc.is_in(batch["nursingchartcelltypevallabel"], value_set=labels))
        return batch.filter(pa.array(stay_filter.matches(batch)))

    keys = {
        "patientunitstayid": pa.int32(),
        "nursingchartoffset": pa.int32(),
        "nursingchartcelltypevallabel": pa.string(),
    }
    columns = list(tables.layout.columns[TABLE])
    tables.stream(TABLE, "temperatures and pressures", columns, keys, keep, progress)


def sum_nurse_charting(
    connection: duckdb.DuckDBPyConnection, step_minutes: int
) -> tuple[str, dict[str, int], dict[str, int]]:
    """Clean the charted values and sum them per stay, time step and vital sign.

    A temperature that lies in the range of the other scale than its name's is taken as that.

    Args:
        connection: has the table, of `stream_nurse_charting`, and `STAYS`. The table is dropped.
        step_minutes: length of a step.

    Returns:
        A query as of `common.data.step_means.step_sums`; the number of rows dropped by reason; and
        the number of values corrected by reason, if any.
    """
    _create_items(connection)
    connection.execute(f"CREATE OR REPLACE TEMP TABLE charted AS {_measurements()}")
    connection.execute(f"DROP TABLE {TABLE.lower()}")
    measurements = (
        f"SELECT stay, minute::BIGINT * {MINUTE_US} AS since_us, vital, rank, "
        f"CAST(round(value * {MILLIONTHS}) AS BIGINT) AS scaled FROM charted WHERE reason IS NULL"
    )
    connection.execute(
        f"CREATE OR REPLACE TABLE charted_sums AS {step_sums(measurements, step_minutes)}"
    )
    dropped = connection.execute(
        f"""
        SELECT reason, sum(n)::BIGINT FROM (
            SELECT reason, CASE WHEN is_outside THEN copies ELSE 1 END AS n FROM charted
            UNION ALL
            SELECT '{DUPLICATE}', copies - 1 FROM charted WHERE NOT is_outside
        ) WHERE reason IS NOT NULL GROUP BY reason HAVING sum(n) > 0 ORDER BY reason"""
    ).fetchall()
    ((other,),) = connection.execute(
        "SELECT count(*) FROM charted WHERE reason IS NULL AND is_other_scale"
    ).fetchall()
    return "SELECT * FROM charted_sums", dict(dropped), {OTHER_SCALE: other} if other else {}


def _create_items(connection: duckdb.DuckDBPyConnection) -> None:
    connection.execute(
        "CREATE OR REPLACE TEMP TABLE charted_items (label VARCHAR, name VARCHAR, vital TINYINT, "
        "rank TINYINT, is_fahrenheit BOOLEAN, low DOUBLE, high DOUBLE, impossible VARCHAR)"
    )
    rows = []
    for item in ITEMS:
        vital = VITALS[VITAL_NAMES.index(item.vital)]
        place = (VITAL_NAMES.index(item.vital), item.rank, item.fahrenheit)
        rows.append((item.label, item.name, *place, vital.low, vital.high, impossible(item.vital)))
    connection.executemany("INSERT INTO charted_items VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows)


def _measurements() -> str:
    """Return the query of distinct charted values, each with the reason to drop it or NULL."""
    low, high = _FAHRENHEIT_RANGE
    is_temperature = f"i.vital = {VITAL_NAMES.index('temperature_c')}"
    return f"""
        WITH distinct_rows AS (
            SELECT patientunitstayid, nursingchartoffset AS minute,
                nursingchartcelltypevallabel AS label, nursingchartcelltypevalname AS name,
                TRY_CAST(nursingchartvalue AS DOUBLE) AS number, count(*) AS copies
            FROM {TABLE.lower()} GROUP BY ALL
        ), typed AS (
            SELECT d.*, i.vital, i.rank, i.low, i.high, i.impossible, until,
                {is_temperature} AND number > {low} AND number < {high} AS in_fahrenheit,
                CASE WHEN in_fahrenheit THEN (number - 32) / 1.8 ELSE number END AS value,
                {is_temperature} AND in_fahrenheit <> i.is_fahrenheit AS is_other_scale,
                {outside_the_stay("minute")} AS outside
            FROM distinct_rows d JOIN charted_items i USING (label, name)
            JOIN {STAYS} USING (patientunitstayid)
        )
        SELECT patientunitstayid AS stay, minute, vital, rank, value, copies, is_other_scale,
            outside IS NOT NULL AS is_outside,
            CASE
                WHEN outside IS NOT NULL THEN outside
                WHEN number IS NULL OR isnan(number) THEN '{NO_NUMBER}'
                WHEN NOT (value > low AND value < high) THEN impossible
            END AS reason
        FROM typed"""
