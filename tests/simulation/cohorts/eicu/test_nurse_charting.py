from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from simulation.cohorts.eicu.schema import eicu_tables
from simulation.cohorts.eicu.vitals import eicu_vitals
from tests.simulation.cohorts.eicu.eicu_folder import Row, write_eicu


def charted(folder: Path, *rows: Row) -> tuple[pd.DataFrame, dict[str, int], dict[str, int]]:
    write_eicu(folder, nurse=rows)
    stays = pd.DataFrame(
        {"patientunitstayid": [1], "until": [1440], "patient_id": ["p"], "stay_id": ["1"]}
    )
    with eicu_tables(folder) as tables:
        return eicu_vitals(tables, stays, 60)


def item(label: str, name: str, value: object, minute: int = 0) -> Row:
    return {
        "nursingchartcelltypevallabel": label,
        "nursingchartcelltypevalname": name,
        "nursingchartvalue": value,
        "nursingchartoffset": minute,
    }


def temperature(scale: str, value: object, minute: int = 0) -> Row:
    return item("Temperature", f"Temperature ({scale})", value, minute)


@pytest.mark.parametrize(
    ("scale", "value", "celsius", "is_other"),
    [
        ("C", 37.2, 37.2, False),
        ("F", 98.6, 37.0, False),
        ("C", 98.6, 37.0, True),
        ("F", 37.2, 37.2, True),
    ],
)
def test_temperatures_are_taken_in_the_scale_of_their_range(
    tmp_path: Path, scale: str, value: float, celsius: float, is_other: bool
) -> None:
    vitals, dropped, corrected = charted(tmp_path, temperature(scale, value))
    assert vitals["temperature_c"].tolist() == [pytest.approx(celsius, abs=1e-5)]
    assert dropped == {}
    reason = "nurseCharting: temperature in the other scale than its name"
    assert corrected == ({reason: 1} if is_other else {})


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ([temperature("C", "see note")], "no number"),
        ([temperature("C", None)], "no number"),
        ([temperature("C", "nan")], "no number"),
        ([temperature("C", 60)], "impossible temperature"),
        ([temperature("F", 120)], "impossible temperature"),
        ([temperature("C", 37, -1)], "row before the unit stay"),
        ([temperature("C", 37, 1441)], "row after the unit stay"),
    ],
)
def test_what_is_dropped_is_counted(tmp_path: Path, rows: list[Row], reason: str) -> None:
    vitals, dropped, corrected = charted(tmp_path, *rows)
    assert vitals.empty
    assert dropped == {f"nurseCharting: {reason}": 1}
    assert corrected == {}


def test_equal_rows_count_once(tmp_path: Path) -> None:
    row = temperature("C", 37)
    vitals, dropped, _ = charted(tmp_path, row, row, temperature("C", 39, 30))
    assert vitals["temperature_c"].tolist() == [38]
    assert dropped == {"nurseCharting: duplicate row": 1}


def test_charted_pressures_have_the_rank_of_their_device(tmp_path: Path) -> None:
    vitals, _, _ = charted(
        tmp_path,
        item("Non-Invasive BP", "Non-Invasive BP Systolic", 100),
        item("Invasive BP", "Invasive BP Systolic", 120),
        item("Non-Invasive BP", "Non-Invasive BP Mean", 70),
        item("MAP (mmHg)", "Value", 80),
        item("Non-Invasive BP", "Non-Invasive BP Diastolic", 55),
        item("Heart Rate", "Heart Rate", 99),
        item("O2 Saturation", "O2 Saturation", 99),
        item("Temperature", "Temperature Location", 38),
    )
    row = vitals.iloc[0]
    assert (row["sbp"], row["dbp"], row["mbp"]) == (120, 55, 80)
    assert vitals[["heart_rate", "spo2", "temperature_c"]].isna().all(axis=None)
