"""SOFA: laboratory values, urine, the window, and the sum."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from common.errors import SourceError
from simulation.cohorts.mimic.chartevents import stream_chartevents
from simulation.cohorts.mimic.sofa.score import (
    COMPONENTS,
    SOFA_ITEMS,
    first_day_sofa,
    sofa_scores,
)
from simulation.cohorts.mimic3.schema import mimic3_tables
from simulation.cohorts.mimic3.sepsis3_records import SOFA_TABLES, mimic3_sofa_records
from tests.simulation.cohorts.mimic.sofa_patients import Patient, at, gas, opened, points, scores

# --- coagulation, liver, creatinine -----------------------------------------------------------


@pytest.mark.parametrize(
    ("component", "item", "normal", "expected"),
    [
        (
            *("coagulation", 51265, 300),
            {150: 0, 149: 1, 100: 1, 99: 2, 50: 2, 49: 3, 20: 3, 19: 4, 1: 4, 0: 0, 10_001: 0},
        ),
        (
            *("liver", 50885, 0.4),
            {1.1: 0, 1.2: 1, 1.9: 1, 2: 2, 5.9: 2, 6: 3, 11.9: 3, 12: 4, 150: 4, 151: 0},
        ),
        (
            *("renal", 50912, 0.7),
            {1.1: 0, 1.2: 1, 1.9: 1, 2: 2, 3.4: 2, 3.5: 3, 4.9: 3, 5: 4, 150: 4, 151: 0},
        ),
    ],
)
def test_laboratory_components(
    tmp_path: Path, component: str, item: int, normal: float, expected: dict[float, int]
) -> None:
    patients = [Patient(lab=[(1, item, normal), (2, item, value)]) for value in expected]
    assert points(tmp_path, component, patients) == list(expected.values())


def test_impossible_laboratory_values_are_no_measurement(tmp_path: Path) -> None:
    patient = Patient(lab=[(1, 51265, 0), (1, 50885, 151), (1, 50912, -1)])
    assert scores(tmp_path, [patient])[0] == {**dict.fromkeys(COMPONENTS), "sofa": 0}


# --- urine ------------------------------------------------------------------------------------


def test_urine_of_a_day(tmp_path: Path) -> None:
    expected = {500: 0, 499: 3, 200: 3, 199: 4, 0: 4}
    patients = [Patient(urine=[(3, 40055, ml / 2), (23, 226559, ml / 2)]) for ml in expected]
    assert points(tmp_path, "renal", patients) == list(expected.values())


def test_what_is_no_urine_does_not_count(tmp_path: Path) -> None:
    irrigated = Patient(urine=[(3, 227489, 900), (3, 227488, 450)])
    other_output = Patient(urine=[(3, 40055, 100), (4, 40054, 3000)])
    charting_error = Patient(urine=[(3, 40055, 100)], urine_wrong=[(4, 40055, 3000)])
    assert points(tmp_path, "renal", [irrigated, other_output, charting_error]) == [3, 4, 4]


def test_urine_of_a_short_stay_is_scaled_or_left_out(tmp_path: Path) -> None:
    # Hours of stay, mL, points.
    cases = [(11.5, 10, None), (12, 251, 0), (12, 249, 3), (18, 140, 4), (18, 380, 0)]
    patients = [Patient(urine=[(5, 40055, ml)], hours=hours) for hours, ml, _ in cases]
    assert points(tmp_path, "renal", patients) == [expected for *_, expected in cases]


def test_the_worst_day_of_a_longer_window_counts(tmp_path: Path) -> None:
    patient = Patient(urine=[(5, 40055, 2000), (30, 40055, 150), (60, 40055, 2000)])
    assert points(tmp_path, "renal", [patient], window=(0, 72)) == [4]


def test_days_of_urine_begin_with_the_stay(tmp_path: Path) -> None:
    # The window reaches back before the ICU, where no urine is charted: the 600 mL are those of
    # the 24 hours that window and stay share, not of 72.
    patient = Patient(urine=[(2, 40055, 150), (20, 40055, 450)])
    assert points(tmp_path, "renal", [patient], window=(-48, 24)) == [0]
    # Two days of the stay, of 550 and 600 mL; counted from the window's start the first has 100.
    patient = Patient(urine=[(5, 40055, 100), (20, 40055, 450), (30, 40055, 600)])
    assert points(tmp_path, "renal", [patient], window=(-12, 48)) == [0]


def test_urine_charted_just_after_the_stay_belongs_to_its_last_day(tmp_path: Path) -> None:
    patient = Patient(urine=[(5, 40055, 300), (24.5, 40055, 300)], hours=24)
    assert points(tmp_path, "renal", [patient], window=(0, 48)) == [0]


# --- windows ----------------------------------------------------------------------------------


def test_both_ends_of_the_window_belong_to_it(tmp_path: Path) -> None:
    hours = (-0.01, 0, 24, 24.01)
    patients = [Patient(lab=[(hour, 51265, 10)], chart=[(hour, 52, 50)]) for hour in hours]
    found = [(row["coagulation"], row["cardiovascular"]) for row in scores(tmp_path, patients)]
    assert found == [(None, None), (4, 1), (4, 1), (None, None)]


def test_only_laboratory_values_may_be_older_than_the_window(tmp_path: Path) -> None:
    patients = [
        Patient(lab=[(-6, 51265, 10)], chart=[(-6, 52, 50)]),
        Patient(lab=[(-6.01, 51265, 10)]),
    ]
    inside, outside = scores(tmp_path, patients, lab_lookback_h=6)
    assert (inside["coagulation"], inside["cardiovascular"]) == (4, None)
    assert outside["coagulation"] is None


def test_sofa_is_the_sum_of_the_components_and_what_is_missing_is_0(tmp_path: Path) -> None:
    ill = Patient(
        lab=[(1, 51265, 90), (1, 50885, 7), (1, 50912, 1.5), *gas(2, 80)],
        chart=[(1, 52, 60), (1, 220739, 3)],
    )
    assert scores(tmp_path, [ill, Patient()]) == [
        {
            "respiration": 2,
            "coagulation": 2,
            "liver": 3,
            "cardiovascular": 1,
            "cns": 1,
            "renal": 1,
            "sofa": 10,
        },
        {**dict.fromkeys(COMPONENTS), "sofa": 0},
    ]


def test_each_window_of_a_stay_is_scored_apart(tmp_path: Path) -> None:
    patient = Patient(lab=[(1, 51265, 90), (30, 51265, 10)])
    with opened(tmp_path, [patient]) as (tables, records):
        tables.connection.execute(
            "CREATE TABLE windows AS SELECT 1 AS subject_id, 101 AS stay_id, start "
            "AS window_start, start + to_hours(24) AS window_end "
            "FROM (VALUES (?::TIMESTAMP), (?::TIMESTAMP)) starts(start)",
            [at(0), at(24.5)],
        )
        table = sofa_scores(tables.connection, records, "windows")
        rows = tables.connection.execute(
            f"SELECT window_start, stay_id, coagulation, sofa FROM {table} ORDER BY ALL"
        ).fetchall()
    assert rows == [(at(0), 101, 2, 2), (at(24.5), 101, 4, 4)]


# --- tables and labels ------------------------------------------------------------------------


@pytest.mark.parametrize("table", SOFA_TABLES)
def test_an_absent_table_is_named(tmp_path: Path, table: str) -> None:
    with opened(tmp_path, [Patient()]):
        pass
    (tmp_path / f"{table}.csv").unlink()
    with (
        mimic3_tables(tmp_path) as tables,
        pytest.raises(SourceError, match=rf"\b{table}\b.*SOFA"),
    ):
        mimic3_sofa_records(tables, "chartevents")


def test_first_day_sofa_equals_the_labels(shared_data: Path) -> None:
    labels = pd.read_csv(shared_data / "mimic3-demo-grafted-labels" / "labels.csv")
    with mimic3_tables(shared_data / "mimic3-demo-grafted") as tables:
        stays = tables.load("ICUSTAYS", "the test")
        subjects = labels["subject_id"].unique().tolist()
        chart = stream_chartevents(tables, SOFA_ITEMS, subjects, with_text=True)
        records = mimic3_sofa_records(tables, chart)
        found = tables.connection.table(first_day_sofa(tables.connection, records, stays)).df()
    both = labels.rename(columns={"icustay_id": "stay_id"}).merge(
        found, on="stay_id", validate="one_to_one"
    )
    assert len(both) == 136
    different = both[both["sofa"] != both["sofa_first_day"]].set_index("stay_id")
    # The one stay that differs lasted 5 hours. The labels take its 280 mL of urine as that of a
    # whole day (3 points of renal failure, at 1,350 mL a day); here urine of less than 12 hours
    # says nothing.
    assert different[["sofa", "sofa_first_day", "renal"]].to_dict("index") == {
        231809: {"sofa": 3, "sofa_first_day": 6, "renal": 0}
    }
