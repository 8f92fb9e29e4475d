from __future__ import annotations

import duckdb
import numpy as np
import pyarrow as pa

from simulation.cohorts.eicu.monitor_values import clean_values, value_reasons
from simulation.cohorts.eicu.vitals import MONITOR_TABLES

(PERIODIC, _) = MONITOR_TABLES


def rows(**columns: list[float | None]) -> pa.RecordBatch:
    (size,) = {len(values) for values in columns.values()}
    every = {name: columns.get(name, [None] * size) for name in PERIODIC.vitals}
    ids = {"patientunitstayid": [1] * size, "observationoffset": list(range(size))}
    return pa.RecordBatch.from_pydict(ids | every, PERIODIC.schema)


def test_a_value_goes_alone_and_pressures_together() -> None:
    values = clean_values(
        PERIODIC,
        rows(
            heartrate=[80, 0, None, 300, float("nan")],
            systemicsystolic=[80, 120, 401, None, 90],
            systemicdiastolic=[60, 0, 60, 60, 50],
            systemicmean=[81, 80, 290, 200, 90],
        ),
    )
    millionths = {name: array.to_pylist() for name, array in values.scaled.items()}
    scaled = {
        name: [value if value is None else value / 1_000_000 for value in column]
        for name, column in millionths.items()
    }
    assert scaled["heartrate"] == [80, None, None, None, None]
    assert scaled["systemicsystolic"] == [None, 120, None, None, 90]
    assert scaled["systemicdiastolic"] == [None, None, 60, 60, 50]
    assert scaled["systemicmean"] == [
        None,
        80,
        290,
        200,
        90,
    ]
    lost = {reason: list(np.flatnonzero(which)) for reason, which in values.dropped.items()}
    assert list(lost) == value_reasons(PERIODIC)
    assert {reason: places for reason, places in lost.items() if places} == {
        "impossible heart rate": [1, 3, 4],
        "impossible systolic blood pressure": [2],
        "impossible diastolic blood pressure": [1],
        "mean pressure above systolic": [0],
    }


def test_millionths_are_rounded_as_by_duckdb() -> None:
    random = np.random.default_rng(0)
    # Multiples of 1/128 have halves of a millionth.
    numbers = np.concatenate([random.integers(1, 9000, 500) / 128, random.uniform(0, 70, 500)])
    batch = rows(respiration=numbers.astype(np.float32).tolist())
    ours = clean_values(PERIODIC, batch).scaled["respiration"].to_pylist()
    table = pa.table([batch["respiration"]], names=["value"])
    with duckdb.connect() as connection:
        connection.register("batch", table)
        theirs = connection.execute(
            "SELECT CASE WHEN value < 70 THEN round(value::DOUBLE * 1000000)::BIGINT END FROM batch"
        ).fetchall()
    assert ours == [value for (value,) in theirs]
