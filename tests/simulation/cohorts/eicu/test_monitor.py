from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from common.data.streams import csv_stream
from common.data.vitals import VITAL_NAMES
from simulation.cohorts.eicu import vitals as eicu
from simulation.cohorts.eicu.schema import eicu_tables
from simulation.cohorts.eicu.vitals import eicu_vitals
from tests.simulation.cohorts.eicu.eicu_folder import PERIODIC, Row, slow_means, write_eicu

END = 1440


def extract(
    folder: Path, step_minutes: int = 60, stays: tuple[int, ...] = (1,)
) -> tuple[pd.DataFrame, dict[str, int]]:
    frame = pd.DataFrame({"patientunitstayid": stays, "until": END})
    frame["patient_id"] = frame["stay_id"] = frame["patientunitstayid"].astype(str)
    with eicu_tables(folder) as tables:
        vitals, dropped, _ = eicu_vitals(tables, frame, step_minutes)
    return vitals, dropped


def monitored(
    folder: Path, *rows: Row, step_minutes: int = 60
) -> tuple[pd.DataFrame, dict[str, int]]:
    return extract(write_eicu(folder, periodic=rows), step_minutes)


def test_a_step_holds_the_mean_of_its_moments(tmp_path: Path) -> None:
    vitals, dropped = monitored(
        tmp_path,
        {"observationoffset": 0, "heartrate": 80},
        {"observationoffset": 59, "heartrate": 90, "sao2": 97},
        {"observationoffset": 60, "heartrate": 70},
    )
    assert vitals["step"].tolist() == [0, 1]
    assert vitals["heart_rate"].tolist() == [85, 70]
    assert vitals["spo2"].fillna(-1).tolist() == [97, -1]
    assert dropped == {}


def test_moments_with_several_rows_count_once(tmp_path: Path) -> None:
    row = {"observationoffset": 5, "heartrate": 80, "sao2": 96}
    vitals, dropped = monitored(
        tmp_path,
        row,
        row,
        {**row, "heartrate": 90},
        {"observationoffset": 10, "heartrate": 105},
    )
    # 5 min: the mean of 80 and 90; then that of 85 and 105.
    assert vitals["heart_rate"].tolist() == [95]
    assert vitals["spo2"].tolist() == [96]
    assert dropped == {"vitalPeriodic: duplicate row": 1}


def test_rows_outside_the_stay_are_counted(tmp_path: Path) -> None:
    vitals, dropped = monitored(
        tmp_path,
        {"observationoffset": -1, "heartrate": 80},
        {"observationoffset": 0, "heartrate": 81},
        {"observationoffset": END, "heartrate": 82},
        {"observationoffset": END + 1, "heartrate": 83},
        {"observationoffset": 2_000_000, "heartrate": 83},
        {"observationoffset": None, "heartrate": 84},
    )
    assert vitals["heart_rate"].tolist() == [81, 82]
    assert dropped == {
        "vitalPeriodic: row before the unit stay": 1,
        "vitalPeriodic: row after the unit stay": 2,
        "vitalPeriodic: row without a time": 1,
    }


@pytest.mark.parametrize(
    ("column", "value", "vital"),
    [
        ("heartrate", 0, "heart rate"),
        ("heartrate", 999, "heart rate"),
        ("respiration", 250, "respiratory rate"),
        ("sao2", 0, "oxygen saturation"),
        ("sao2", 101, "oxygen saturation"),
        ("temperature", 98.6, "temperature"),
        ("heartrate", "nan", "heart rate"),
        ("heartrate", "inf", "heart rate"),
    ],
)
def test_impossible_values_go_and_the_rest_of_the_row_stays(
    tmp_path: Path, column: str, value: object, vital: str
) -> None:
    vitals, dropped = monitored(tmp_path, {column: value, "systemicdiastolic": 60})
    assert vitals["dbp"].tolist() == [60]
    assert vitals[list(VITAL_NAMES)].notna().to_numpy().sum() == 1
    assert dropped == {f"vitalPeriodic: impossible {vital}": 1}


def test_pressures_whose_mean_is_above_the_systolic_go_together(tmp_path: Path) -> None:
    pressures = {"systemicsystolic": 80, "systemicdiastolic": 60, "systemicmean": 140}
    vitals, dropped = monitored(tmp_path, {"heartrate": 70, **pressures})
    assert vitals[["sbp", "dbp", "mbp"]].isna().all(axis=None)
    assert vitals["heart_rate"].tolist() == [70]
    assert dropped == {"vitalPeriodic: mean pressure above systolic": 1}


def test_an_invasive_pressure_goes_before_that_of_the_cuff(tmp_path: Path) -> None:
    write_eicu(
        tmp_path,
        periodic=[{"observationoffset": 30, "systemicsystolic": 120}],
        aperiodic=[
            {"observationoffset": 10, "noninvasivesystolic": 90, "noninvasivemean": 60},
            {"observationoffset": 70, "noninvasivesystolic": 95},
        ],
    )
    vitals, _ = extract(tmp_path)
    assert vitals["sbp"].tolist() == [120, 95]
    assert vitals["mbp"].fillna(-1).tolist() == [60, -1]


def test_no_chosen_stay(tmp_path: Path) -> None:
    write_eicu(tmp_path, periodic=[{"heartrate": 80}])
    vitals, dropped = extract(tmp_path, stays=())
    assert (len(vitals), dropped) == (0, {})


def test_rows_of_other_stays_and_without_a_vital_sign_are_left_out(tmp_path: Path) -> None:
    vitals, dropped = monitored(
        tmp_path,
        {"patientunitstayid": 2, "heartrate": 0},
        {"patientunitstayid": None, "heartrate": 80},
        {"observationoffset": -10},
        {"heartrate": 80},
    )
    assert len(vitals) == 1
    assert dropped == {}


def random_rows(seed: int) -> list[Row]:
    """Rows of three stays: many moments with several rows, some equal, and impossible values."""
    random = np.random.default_rng(seed)
    # Around the edges of hours, of steps of 90 minutes, and of blocks of 64.
    edges = [-5, 0, 1, 59, 60, 63, 64, 89, 90, 127, 128, END, END + 1]
    values = [None, None, 0, 60, 98.5, 99, 120, 300]
    rows: list[Row] = [
        {
            "patientunitstayid": int(random.integers(1, 4)),
            "observationoffset": int(
                random.choice(edges) if random.random() < 0.3 else random.integers(0, END)
            ),
            "temperature": [None, 37.15, 36.6][random.integers(3)],
            **{
                column: values[random.integers(len(values))]
                for column in PERIODIC
                if column != "temperature"
            },
        }
        for _ in range(800)
    ]
    return [*rows, *rows[::9]]


@pytest.mark.parametrize("step_minutes", [5, 60, 90])
def test_means_are_those_of_a_slow_reader_whatever_the_order_and_blocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step_minutes: int
) -> None:
    patients = [{}, {"patientunitstayid": 2}, {"patientunitstayid": 3}]
    rows = random_rows(step_minutes)
    write_eicu(tmp_path, patients, rows)
    theirs = slow_means(tmp_path, step_minutes)
    ours, dropped = extract(tmp_path, step_minutes, (1, 2, 3))

    columns = ["step", *VITAL_NAMES]
    assert ours["stay_id"].astype(int).tolist() == theirs["stay"].tolist()
    np.testing.assert_allclose(
        ours[columns].to_numpy(float), theirs[columns].to_numpy(float), rtol=1e-6
    )
    assert dropped["vitalPeriodic: duplicate row"] >= 80

    np.random.default_rng(1).shuffle(rows)
    write_eicu(tmp_path, patients, rows)
    monkeypatch.setattr(csv_stream, "CSV_BLOCK_BYTES", 1000)
    monkeypatch.setattr(eicu, "_STAYS_A_QUERY", 2)
    again, dropped_again = extract(tmp_path, step_minutes, (3, 1, 2))
    pd.testing.assert_frame_equal(again, ours, check_exact=True)
    assert dropped_again == dropped
