"""Means per step; the sources' own tests compare them with plain loops."""

from __future__ import annotations

import duckdb
import pandas as pd
import pytest

from common.data.step_means import MILLIONTHS, MINUTE_US, step_means
from common.data.vitals import VITAL_NAMES

HEART_RATE = VITAL_NAMES.index("heart_rate")
SBP = VITAL_NAMES.index("sbp")

Row = tuple[int, int, int, int, float]
"""Stay, minute, vital, rank and value."""


def means_of(rows: list[Row], step_minutes: int = 60) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=["stay", "minute", "vital", "rank", "value"]).astype(
        {"stay": int, "minute": int, "vital": int, "rank": int}
    )
    frame["since_us"] = frame["minute"] * MINUTE_US
    frame["scaled"] = (frame["value"].astype(float) * MILLIONTHS).round().astype("int64")
    with duckdb.connect() as connection:
        connection.register("rows", frame)
        return step_means(connection, "SELECT * FROM rows", step_minutes)


@pytest.mark.parametrize(
    ("rows", "sbp"),
    [
        ([(1, 5, SBP, 0, 120.5)], 120.5),
        ([(1, 5, SBP, 0, 100), (1, 6, SBP, 0, 120)], 110),
        # Two values of one time count once.
        ([(1, 5, SBP, 0, 100), (1, 5, SBP, 0, 120), (1, 50, SBP, 0, 140)], 125),
        # The lowest rank with a value in the step.
        ([(1, 5, SBP, 1, 100), (1, 30, SBP, 0, 120)], 120),
        ([(1, 5, SBP, 1, 100), (1, 30, SBP, 2, 120)], 100),
    ],
    ids=["one value", "two times", "two values of one time", "best rank", "second rank"],
)
def test_the_mean_of_a_step(rows: list[Row], sbp: float) -> None:
    frame = means_of(rows)
    assert frame["sbp"].tolist() == [sbp]
    assert frame.drop(columns=["stay", "step", "sbp"]).isna().all(axis=None)


def test_rows_are_sorted_by_stay_and_step() -> None:
    rows = [(2, 130, SBP, 0, 90.0), (1, 59, SBP, 0, 80.0), (2, 0, HEART_RATE, 0, 70.0)]
    frame = means_of(rows)
    assert frame[["stay", "step"]].to_numpy().tolist() == [[1, 0], [2, 0], [2, 2]]
    assert str(frame["step"].dtype) == "int32"
    assert {str(frame[name].dtype) for name in VITAL_NAMES} == {"float32"}


def test_no_measurement_gives_no_row() -> None:
    assert means_of([]).empty
