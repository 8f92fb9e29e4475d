from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import pandas as pd
import pytest

from common.errors import SourceError
from simulation.mimic3.chartevents import stream_chartevents
from simulation.mimic3.sofa import COMPONENTS, SOFA_ITEMS, SOFA_TABLES, first_day_sofa, sofa_scores
from simulation.mimic3.tables import MimicTables

INTIME = datetime.fromisoformat("2150-01-01 00:00:00")
HEADERS = {
    "ICUSTAYS": "SUBJECT_ID,HADM_ID,ICUSTAY_ID,DBSOURCE,FIRST_CAREUNIT,INTIME,OUTTIME",
    "LABEVENTS": "SUBJECT_ID,HADM_ID,ITEMID,CHARTTIME,VALUE,VALUENUM",
    "INPUTEVENTS_CV": "ICUSTAY_ID,CHARTTIME,ITEMID,AMOUNT,RATE,RATEUOM",
    "INPUTEVENTS_MV": (
        "ICUSTAY_ID,STARTTIME,ENDTIME,ITEMID,RATE,RATEUOM,AMOUNT,AMOUNTUOM,PATIENTWEIGHT,"
        "STATUSDESCRIPTION"
    ),
    "OUTPUTEVENTS": "ICUSTAY_ID,CHARTTIME,ITEMID,VALUE,ISERROR",
    "PROCEDUREEVENTS_MV": "ICUSTAY_ID,STARTTIME,ENDTIME,ITEMID,STATUSDESCRIPTION",
    "CHARTEVENTS": "SUBJECT_ID,HADM_ID,ICUSTAY_ID,ITEMID,CHARTTIME,VALUE,VALUENUM,VALUEUOM,ERROR",
}

Value = tuple[float, int, float | str]  # hour, item, value
Points = int | None


@dataclass
class Patient:
    """The measurements of one patient; times are hours from the admission to the ICU."""

    lab: Sequence[Value] = ()
    chart: Sequence[Value] = ()
    charted_wrong: Sequence[Value] = ()
    carevue: Sequence[tuple[float, int, float, str]] = ()  # hour, item, rate, unit
    metavision: Sequence[tuple[float, float, int, float, str]] = ()  # from, to, item, rate, status
    urine: Sequence[tuple[float, int, float]] = ()  # hour, item, mL
    urine_wrong: Sequence[tuple[float, int, float]] = ()
    extubated: Sequence[tuple[float, int]] = ()  # hour, item
    hours: float = 72  # length of stay


def at(hours: float) -> datetime:
    return INTIME + timedelta(hours=hours)


def rows_of(subject: int, patient: Patient) -> dict[str, list[tuple[object, ...]]]:
    stay = 100 + subject

    def number(value: float | str) -> float | str:
        return "" if isinstance(value, str) else value

    return {
        "ICUSTAYS": [(subject, 10, stay, "carevue", "MICU", at(0), at(patient.hours))],
        "LABEVENTS": [
            (subject, "", item, at(hour), value, number(value)) for hour, item, value in patient.lab
        ],
        "INPUTEVENTS_CV": [
            (stay, at(hour), item, "", rate, unit) for hour, item, rate, unit in patient.carevue
        ],
        "INPUTEVENTS_MV": [
            (stay, at(start), at(end), item, rate, "mcg/kg/min", "", "", "", status)
            for start, end, item, rate, status in patient.metavision
        ],
        "OUTPUTEVENTS": [
            (stay, at(hour), item, ml, error)
            for error, values in (("", patient.urine), (1, patient.urine_wrong))
            for hour, item, ml in values
        ],
        "PROCEDUREEVENTS_MV": [
            (stay, at(hour), at(hour), item, "FinishedRunning") for hour, item in patient.extubated
        ],
        "CHARTEVENTS": [
            (subject, 10, "", item, at(hour), value, number(value), "", error)
            for error, values in (("", patient.chart), (1, patient.charted_wrong))
            for hour, item, value in values
        ],
    }


@contextmanager
def opened(folder: Path, patients: Sequence[Patient]) -> Iterator[tuple[MimicTables, str]]:
    """The patients' tables, and the name of that of their chart events; subjects count from 1."""
    rows = [rows_of(subject, patient) for subject, patient in enumerate(patients, start=1)]
    for table, header in HEADERS.items():
        with (folder / f"{table}.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(header.split(","))
            writer.writerows(row for patient_rows in rows for row in patient_rows[table])
    with MimicTables(folder) as tables:
        subjects = range(1, len(patients) + 1)
        yield tables, stream_chartevents(tables, SOFA_ITEMS, subjects, with_text=True)


def scores(
    folder: Path,
    patients: Sequence[Patient],
    window: tuple[float, float] = (0, 24),
    lab_lookback_h: int = 0,
) -> list[dict[str, Points]]:
    with opened(folder, patients) as (tables, chart):
        stays = tables.load("ICUSTAYS", "the test")
        tables.connection.execute(
            f"CREATE TABLE windows AS SELECT subject_id, icustay_id, ?::TIMESTAMP AS window_start, "
            f"?::TIMESTAMP AS window_end FROM {stays}",
            [at(window[0]), at(window[1])],
        )
        table = sofa_scores(tables, chart, "windows", lab_lookback_h=lab_lookback_h)
        columns = (*COMPONENTS, "sofa")
        rows = tables.connection.execute(
            f"SELECT {', '.join(columns)} FROM {table} ORDER BY icustay_id"
        ).fetchall()
    assert len(rows) == len(patients)
    return [dict(zip(columns, row, strict=True)) for row in rows]


def points(
    folder: Path,
    component: str,
    patients: Sequence[Patient],
    window: tuple[float, float] = (0, 24),
) -> list[Points]:
    return [row[component] for row in scores(folder, patients, window)]


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
    with opened(tmp_path, [patient]) as (tables, chart):
        tables.connection.execute(
            "CREATE TABLE windows AS SELECT 1 AS subject_id, 101 AS icustay_id, start "
            "AS window_start, start + to_hours(24) AS window_end "
            "FROM (VALUES (?::TIMESTAMP), (?::TIMESTAMP)) starts(start)",
            [at(0), at(24.5)],
        )
        table = sofa_scores(tables, chart, "windows")
        rows = tables.connection.execute(
            f"SELECT window_start, icustay_id, coagulation, sofa FROM {table} ORDER BY ALL"
        ).fetchall()
    assert rows == [(at(0), 101, 2, 2), (at(24.5), 101, 4, 4)]


# --- respiration ------------------------------------------------------------------------------


def gas(hour: float, po2: float, specimen: str = "ART") -> list[Value]:
    """A blood gas at an FiO2 of 50 %: the ratio is twice the PaO2."""
    return [(hour, 50800, specimen), (hour, 50821, po2), (hour, 50816, 50)]


VENTILATED: list[Value] = [(0, 224687, 8), (4, 224687, 8)]


def test_respiration_alone_and_ventilated(tmp_path: Path) -> None:
    alone = {400: 0, 399: 1, 300: 1, 299: 2, 200: 2, 199: 2, 100: 2, 99: 2}
    patients = [Patient(lab=gas(2, ratio / 2)) for ratio in alone]
    assert points(tmp_path, "respiration", patients) == list(alone.values())

    ventilated = {400: 0, 399: 1, 300: 1, 299: 2, 200: 2, 199: 3, 100: 3, 99: 4}
    patients = [Patient(lab=gas(2, ratio / 2), chart=VENTILATED) for ratio in ventilated]
    assert points(tmp_path, "respiration", patients) == list(ventilated.values())


def test_a_lower_ratio_after_ventilation_has_no_points_of_it(tmp_path: Path) -> None:
    patient = Patient(lab=[*gas(2, 80), *gas(10, 45)], chart=VENTILATED)
    assert points(tmp_path, "respiration", [patient]) == [3]


def test_only_arterial_gases_count(tmp_path: Path) -> None:
    patients = [Patient(lab=gas(2, 40, name)) for name in ("VEN", "MIX", "CENTRAL VENOUS")]
    unlabelled = Patient(lab=gas(2, 120)[1:])
    assert points(tmp_path, "respiration", [*patients, unlabelled]) == [None, None, None, 2]


def test_charted_fio2(tmp_path: Path) -> None:
    # 100 mmHg at 40 % is 250, which is 2 points.
    cases: list[tuple[int, float, Points]] = [
        *((3420, 40, 2), (3422, 40, 2), (190, 0.4, 2), (223835, 0.4, 2), (223835, 40, 2)),
        *((190, 40, None), (223835, 12, None), (223835, 101, None), (3420, 0, None)),
    ]
    patients = [Patient([(6, 50821, 100)], [(2, item, value)]) for item, value, _ in cases]
    assert points(tmp_path, "respiration", patients) == [expected for *_, expected in cases]


def test_charted_fio2_holds_4_hours_and_the_last_one_counts(tmp_path: Path) -> None:
    charted: list[list[Value]] = [
        [(2, 3420, 40)],
        [(1.9, 3420, 40)],
        [(6.1, 3420, 40)],
        [(3, 3420, 40), (5, 3420, 21)],
    ]
    patients = [Patient([(6, 50821, 100)], chart) for chart in charted]
    assert points(tmp_path, "respiration", patients) == [2, None, None, 0]


def test_fio2_of_the_laboratory_comes_first(tmp_path: Path) -> None:
    patient = Patient(lab=gas(6, 100), chart=[(5, 3420, 21)])
    assert points(tmp_path, "respiration", [patient]) == [2]


def test_ventilation(tmp_path: Path) -> None:
    # A ratio of 160 at hour 6 has 3 points if the patient is ventilated then, else 2.
    cases: list[tuple[list[Value], int]] = [
        ([(0, 445, 8), (8, 445, 8)], 3),
        ([(0, 445, 8), (8.1, 445, 8)], 2),
        ([(6, 445, 8)], 2),
        ([(0, 445, 8), (5, 445, 8)], 2),
        ([(5, 720, "CMV"), (7, 720, "CMV")], 3),
        ([(5, 720, "Other/Remarks"), (7, 720, "Other/Remarks")], 2),
        ([(5, 223848, "Drager"), (7, 223848, "Drager")], 3),
        ([(5, 223848, "Other"), (7, 223848, "Other")], 2),
        ([(5, 467, "Ventilator"), (7, 467, "Ventilator")], 3),
        ([(5, 467, "None"), (7, 467, "None")], 2),
        ([(4, 445, 8), (5, 467, "Nasal Cannula"), (7, 445, 8)], 2),
        ([(4, 445, 8), (5, 226732, "Trach mask "), (7, 445, 8)], 2),
        ([(4, 445, 8), (5, 640, "Extubated"), (7, 445, 8)], 2),
        ([(4, 445, 8), (6.5, 640, "Self Extubation")], 3),
        ([(4, 445, 8), (6.5, 445, 8), (6.5, 467, "Nasal Cannula")], 3),
    ]
    patients = [Patient(gas(6, 80), chart) for chart, _ in cases]
    assert points(tmp_path, "respiration", patients) == [expected for _, expected in cases]


def test_extubation_procedures_end_ventilation(tmp_path: Path) -> None:
    patients = [
        Patient(gas(6, 80), [(3, 445, 8), (7, 445, 8)], extubated=[(5, item)])
        for item in (227194, 225468, 225477, 225401)
    ]
    assert points(tmp_path, "respiration", patients) == [2, 2, 2, 3]


# --- cardiovascular ---------------------------------------------------------------------------

CAREVUE = {
    "dobutamine": (30042, 30306),
    "dopamine": (30043, 30307),
    "epinephrine": (30119, 30309),
    "norepinephrine": (30120,),
}
METAVISION = {
    "dobutamine": 221653,
    "dopamine": 221662,
    "epinephrine": 221289,
    "norepinephrine": 221906,
}


def test_mean_pressure(tmp_path: Path) -> None:
    expected = {70: 0, 69: 1, 0: None, 300: None}
    patients = [
        Patient(chart=[(1, item, pressure)])
        for item in (52, 443, 456, 6702, 220052, 220181, 225312)
        for pressure in expected
    ]
    assert points(tmp_path, "cardiovascular", patients) == list(expected.values()) * 7


def test_a_charting_error_does_not_count(tmp_path: Path) -> None:
    patient = Patient(
        lab=[(3, 50821, 100)],
        chart=[(1, 52, 80), (1, 454, 6)],
        charted_wrong=[(2, 52, 40), (2, 454, 1), (2, 3420, 50), (2, 445, 8), (4, 445, 8)],
    )
    row = scores(tmp_path, [patient])[0]
    assert (row["cardiovascular"], row["cns"], row["respiration"]) == (0, 0, None)


@pytest.mark.parametrize(
    ("drug", "expected"),
    [
        ("dobutamine", {0.5: 2, 40: 2}),
        ("dopamine", {0.5: 2, 5: 2, 5.1: 3, 15: 3, 15.1: 4}),
        ("epinephrine", {0.01: 3, 0.1: 3, 0.11: 4}),
        ("norepinephrine", {0.01: 3, 0.1: 3, 0.11: 4}),
    ],
)
def test_doses_a_kg(tmp_path: Path, drug: str, expected: dict[float, int]) -> None:
    low_pressure: list[Value] = [(1, 52, 60)]
    for item in CAREVUE[drug]:
        carevue = [
            Patient(carevue=[(1, item, dose, "mcgkgmin")], chart=low_pressure) for dose in expected
        ]
        assert points(tmp_path, "cardiovascular", carevue) == list(expected.values())
    metavision = [
        Patient(metavision=[(1, 2, METAVISION[drug], dose, "FinishedRunning")], chart=low_pressure)
        for dose in expected
    ]
    assert points(tmp_path, "cardiovascular", metavision) == list(expected.values())


def test_doses_a_minute_are_divided_by_the_weight(tmp_path: Path) -> None:
    # 8 ug/min at 80 kg is 0.1 ug/kg/min.
    patients = [
        Patient(carevue=[(1, item, rate, unit)], chart=[(-20, 762, 80)])
        for item in (30047, 30044)
        for unit in ("mcgmin", "mcg/min", "")
        for rate in (8, 8.1)
    ]
    assert points(tmp_path, "cardiovascular", patients) == [3, 4] * 6


def test_units_of_weight(tmp_path: Path) -> None:
    weights = [*((item, 80.0) for item in (226512, 762, 763, 3580, 3723)), (3581, 176.37)]
    patients = [
        Patient(carevue=[(1, 30047, rate, "mcgmin")], chart=[(0, item, weight)])
        for item, weight in (*weights, (3582, 2821.9))
        for rate in (7.9, 8.1)
    ]
    assert points(tmp_path, "cardiovascular", patients) == [3, 4] * 7


def test_the_unit_in_the_row_comes_before_that_of_the_item(tmp_path: Path) -> None:
    patient = Patient(carevue=[(1, 30120, 8, "mcgmin")], chart=[(0, 762, 80)])
    assert points(tmp_path, "cardiovascular", [patient]) == [3]


def test_a_dose_without_a_known_weight_has_the_least_points_of_the_drug(tmp_path: Path) -> None:
    patient = Patient(carevue=[(1, 30047, 50, "mcgmin")])
    assert points(tmp_path, "cardiovascular", [patient]) == [3]


def test_stopped_and_rewritten_infusions_do_not_count(tmp_path: Path) -> None:
    patient = Patient(
        carevue=[(1, 30120, 0, "mcgkgmin")], metavision=[(1, 2, 221906, 0.5, "Rewritten")]
    )
    assert points(tmp_path, "cardiovascular", [patient]) == [None]


def test_an_infusion_counts_where_it_runs(tmp_path: Path) -> None:
    expected = {(-3.0, 1.0): 4, (-3.0, -1.0): None, (23.0, 30.0): 4, (25.0, 30.0): None}
    patients = [
        Patient(metavision=[(start, end, 221906, 0.5, "Stopped")]) for start, end in expected
    ]
    assert points(tmp_path, "cardiovascular", patients) == list(expected.values())


# --- central nervous system -------------------------------------------------------------------


def coma(hour: float, eyes: float, verbal: float | str, motor: float) -> list[Value]:
    return [(hour, 184, eyes), (hour, 723, verbal), (hour, 454, motor)]


def test_coma_scale(tmp_path: Path) -> None:
    expected = {
        (4, 5, 6): 0,
        (3, 5, 6): 1,
        (4, 3, 6): 1,
        (3, 3, 6): 2,
        (2, 2, 6): 2,
        (2, 1, 6): 3,
        (1, 1, 4): 3,
        (1, 1, 3): 4,
        (1, 1, 1): 4,
    }
    carevue = [Patient(chart=coma(1, *parts)) for parts in expected]
    metavision = [
        Patient(chart=[(1, 220739, eyes), (1, 223900, verbal), (1, 223901, motor)])
        for eyes, verbal, motor in expected
    ]
    assert points(tmp_path, "cns", [*carevue, *metavision]) == list(expected.values()) * 2


def test_an_intubated_patient_counts_as_before(tmp_path: Path) -> None:
    tubes = ((723, "1.0 ET/Trach"), (223900, "No Response-ETT"))
    patients = [Patient(chart=[(1, 184, 1), (1, item, text), (1, 454, 1)]) for item, text in tubes]
    assert points(tmp_path, "cns", patients) == [0, 0]


def test_a_part_not_charted_is_that_of_the_charting_before(tmp_path: Path) -> None:
    # 4 + 3 + 6 = 13; then the motor answer falls to 2 and the others are not charted again.
    soon = Patient(chart=[*coma(1, 4, 3, 6), (6, 454, 2)])
    # After 6 hours they are taken as normal: 4 + 5 + 2 = 11.
    late = Patient(chart=[*coma(1, 4, 3, 6), (7, 454, 2)])
    assert points(tmp_path, "cns", [soon, late]) == [3, 2]


def test_what_was_charted_through_a_tube_is_not_carried_on(tmp_path: Path) -> None:
    tube = coma(1, 1, "1.0 ET/Trach", 1)
    answers = Patient(chart=[*tube, (3, 723, 5)])
    still_intubated = Patient(chart=[*tube, (3, 454, 1)])
    assert points(tmp_path, "cns", [answers, still_intubated]) == [0, 0]


def test_the_charted_sum_is_not_read(tmp_path: Path) -> None:
    assert 198 not in SOFA_ITEMS
    assert points(tmp_path, "cns", [Patient(chart=[(1, 198, 3)])]) == [None]


# --- tables and labels ------------------------------------------------------------------------


@pytest.mark.parametrize("table", SOFA_TABLES)
def test_an_absent_table_is_named(tmp_path: Path, table: str) -> None:
    with opened(tmp_path, [Patient()]) as (tables, chart):
        pass
    (tmp_path / f"{table}.csv").unlink()
    with MimicTables(tmp_path) as tables:
        tables.connection.execute(
            "CREATE TABLE windows (subject_id BIGINT, icustay_id BIGINT, window_start TIMESTAMP, "
            "window_end TIMESTAMP)"
        )
        with pytest.raises(SourceError, match=rf"\b{table}\b.*SOFA"):
            sofa_scores(tables, chart, "windows")


def test_first_day_sofa_equals_the_labels(shared_data: Path) -> None:
    labels = pd.read_csv(shared_data / "mimic3-demo-grafted-labels" / "labels.csv")
    with MimicTables(shared_data / "mimic3-demo-grafted") as tables:
        stays = tables.load("ICUSTAYS", "the test")
        subjects = labels["subject_id"].unique().tolist()
        chart = stream_chartevents(tables, SOFA_ITEMS, subjects, with_text=True)
        found = tables.connection.table(first_day_sofa(tables, chart, stays)).df()
    both = labels.merge(found, on="icustay_id", validate="one_to_one")
    assert len(both) == 136
    different = both[both["sofa"] != both["sofa_first_day"]].set_index("icustay_id")
    # The one stay that differs lasted 5 hours. The labels take its 280 mL of urine as that of a
    # whole day (3 points of renal failure, at 1,350 mL a day); here urine of less than 12 hours
    # says nothing.
    assert different[["sofa", "sofa_first_day", "renal"]].to_dict("index") == {
        231809: {"sofa": 3, "sofa_first_day": 6, "renal": 0}
    }
