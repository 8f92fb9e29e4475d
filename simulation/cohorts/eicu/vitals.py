"""Vital signs of eICU-CRD: means per stay and time step from the monitor and nurse charting.

| rank | source                                                                           |
|------|----------------------------------------------------------------------------------|
| 0    | vitalPeriodic: heart rate, breathing, SpO2, temperature probe, invasive pressures |
| 1    | nurseCharting: temperatures, invasive pressures                                  |
| 2    | vitalAperiodic: pressures of the cuff                                            |
| 3    | nurseCharting: pressures of the cuff                                             |

A step holds the mean of the first rank that has a value of the vital sign in it. Columns are those
of MIT-LCP/eicu-code, `concepts/pivoted/pivoted-vital.sql`; the valid ranges are the site table's.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

import duckdb
import numpy as np
import pandas as pd

from common.data.step_means import means_of_sums
from common.files.hashing import ReadProgress
from simulation.cohorts.eicu.monitor import sum_monitor
from simulation.cohorts.eicu.monitor_values import MonitorTable
from simulation.cohorts.eicu.nurse_charting import (
    TABLE,
    stream_nurse_charting,
    sum_nurse_charting,
)
from simulation.cohorts.eicu.stay_rows import register_unit_stays
from simulation.cohorts.source_tables import SourceTables

MONITOR_TABLES: tuple[MonitorTable, ...] = (
    MonitorTable(
        "vitalPeriodic",
        {
            "heartrate": "heart_rate",
            "respiration": "resp_rate",
            "sao2": "spo2",
            "temperature": "temperature_c",
            "systemicsystolic": "sbp",
            "systemicdiastolic": "dbp",
            "systemicmean": "mbp",
        },
        rank=0,
        systolic="systemicsystolic",
        mean="systemicmean",
    ),
    MonitorTable(
        "vitalAperiodic",
        {
            "noninvasivesystolic": "sbp",
            "noninvasivediastolic": "dbp",
            "noninvasivemean": "mbp",
        },
        rank=2,
        systolic="noninvasivesystolic",
        mean="noninvasivemean",
    ),
)

_STAYS_A_QUERY = 8000

VITAL_TABLES: tuple[str, ...] = (*(table.name for table in MONITOR_TABLES), TABLE)


def eicu_vitals(
    tables: SourceTables,
    stays: pd.DataFrame,
    step_minutes: int,
    progress: ReadProgress | None = None,
) -> tuple[pd.DataFrame, dict[str, int], dict[str, int]]:
    """Read the vital signs of the chosen stays, each table in one pass, and average them.

    Args:
        tables: the eICU tables, with `VITAL_TABLES`.
        stays: `patientunitstayid`, `patient_id`, `stay_id`, and `until`, the minute of discharge.
        step_minutes: length of a step; step = floor(minutes since the admission / length).
        progress: called with the bytes of each table's file read so far and its size.

    Returns:
        The means, one row per stay and step with any measurement: `patient_id` and `stay_id` (str),
        `step` (int32) and the vitals (float32, NaN where not measured), sorted by these keys; the
        number of rows or values dropped, and of values corrected, by table and reason.

    Raises:
        SourceError: a table or a column is missing, or a file is damaged.
    """
    register_unit_stays(tables, stays)
    dropped: dict[str, int] = {}
    sums = []
    for table in MONITOR_TABLES:
        query, counts = sum_monitor(tables, table, stays, step_minutes, progress)
        sums.append(query)
        dropped |= _of_table(table.name, counts)
    stream_nurse_charting(tables, stays["patientunitstayid"].tolist(), progress)
    query, counts, corrected = sum_nurse_charting(tables.connection, step_minutes)
    sums.append(query)
    dropped |= _of_table(TABLE, counts)
    means = _means(tables.connection, " UNION ALL ".join(sums), stays)
    names = stays[["patientunitstayid", "patient_id", "stay_id"]]
    frame = (
        names.sort_values(["patient_id", "stay_id"])
        .merge(means, left_on="patientunitstayid", right_on="stay")
        .drop(columns=["patientunitstayid", "stay"])
    )
    return frame, dropped, _of_table(TABLE, corrected)


def _means(connection: duckdb.DuckDBPyConnection, sums: str, stays: pd.DataFrame) -> pd.DataFrame:
    # In parts, since the time and memory of a grouping rise faster than the number of its groups.
    ids = np.sort(stays["patientunitstayid"].to_numpy())
    limits = np.iinfo(np.int32)
    edges = [limits.min, *ids[_STAYS_A_QUERY::_STAYS_A_QUERY], limits.max]
    return pd.concat(
        [
            means_of_sums(
                connection, f"SELECT * FROM ({sums}) WHERE stay >= {first} AND stay < {end}"
            )
            for first, end in pairwise(edges)
        ],
        ignore_index=True,
    )


def _of_table(table: str, counts: Mapping[str, int]) -> dict[str, int]:
    return {f"{table}: {reason}": count for reason, count in counts.items()}
