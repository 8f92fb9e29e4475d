"""SOFA of MIMIC-IV's tables: hand-computed points, and those of MIMIC-III for the same records."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from simulation.cohorts.mimic.sofa.score import COMPONENTS
from tests.simulation.cohorts.mimic.sofa_patients import Patient, Value, gas, scores
from tests.simulation.cohorts.mimic4.sofa_tables import points_mimic4, scores_mimic4

NOREPINEPHRINE, EPINEPHRINE, DOPAMINE, DOBUTAMINE = 221906, 221289, 221662, 221653


def test_each_component_and_their_sum(tmp_path: Path) -> None:
    ill = Patient(
        # Ratio 160 on the ventilator, 3 points; platelets 2; bilirubin 3; creatinine 2.
        lab=[*gas(2, 80), (1, 51265, 90), (1, 50885, 7), (1, 50912, 2.5)],
        # Mean pressure 1, but dopamine above 5 ug/kg/min is 3; coma scale 3 + 4 + 6 = 13 is 1.
        chart=[
            *((0, 224687, 8), (4, 224687, 8), (1, 220052, 60)),
            *((5, 220739, 3), (5, 223900, 4), (5, 223901, 6)),
        ],
        metavision=[(1, 2, DOPAMINE, 6, "FinishedRunning")],
        # 450 mL in a day is 3, more than creatinine's 2.
        urine=[(3, 226559, 450)],
    )
    assert scores_mimic4(tmp_path, [ill, Patient()]) == [
        dict(zip((*COMPONENTS, "sofa"), (3, 2, 3, 3, 1, 3, 15), strict=True)),
        {**dict.fromkeys(COMPONENTS), "sofa": 0},
    ]


def test_the_specimen_of_a_blood_gas(tmp_path: Path) -> None:
    patients = [
        *(Patient(lab=gas(2, 80, name)) for name in ("ART", "VEN", "MIX", "CENTRAL VENOUS")),
        Patient(lab=gas(2, 80)[1:]),
        # Two samples of one moment: the venous one is not the arterial one.
        Patient(lab=gas(2, 180), other_sample=gas(2, 40, "VEN")),
    ]
    expected = [2, None, None, None, 2, 1]
    assert points_mimic4(tmp_path, "respiration", patients) == expected


def test_ventilation_by_charted_items_and_procedures(tmp_path: Path) -> None:
    # A ratio of 160 at hour 6 has 3 points if the patient is ventilated then, else 2.
    cases: list[tuple[list[Value], list[tuple[float, int]], int]] = [
        ([(4, 224687, 8), (7, 224687, 8)], [], 3),
        ([(4, 229314, "ASV"), (7, 229314, "ASV")], [], 3),
        ([(4, 223849, "CMV"), (5, 226732, "Trach mask "), (7, 223849, "CMV")], [], 2),
        ([(4, 224687, 8), (7, 224687, 8)], [(5, 227194)], 2),
        ([(4, 224687, 8), (7, 224687, 8)], [(5, 225468)], 2),
        ([(4, 224687, 8), (7, 224687, 8)], [(5, 225477)], 2),
        ([(4, 224687, 8), (7, 224687, 8)], [(5, 225401)], 3),
    ]
    patients = [Patient(gas(6, 80), chart, extubated=ends) for chart, ends, _ in cases]
    assert points_mimic4(tmp_path, "respiration", patients) == [points for *_, points in cases]


def test_units_of_rates_and_weights(tmp_path: Path) -> None:
    # Drug, rate, unit, the row's weight, points.
    cases: list[tuple[int, float, str, float, int | None]] = [
        (NOREPINEPHRINE, 0.1, "mcg/kg/min", 80, 3),
        (NOREPINEPHRINE, 0.11, "mcg/kg/min", 80, 4),
        (EPINEPHRINE, 0.11, "", 80, 4),
        (DOPAMINE, 5, "mcg/kg/min", 80, 2),
        (DOPAMINE, 15.1, "mcg/kg/min", 80, 4),
        (DOBUTAMINE, 0.5, "mcg/kg/min", 80, 2),
        # 8 ug/min at 80 kg is 0.1 ug/kg/min.
        (NOREPINEPHRINE, 8, "mcg/min", 80, 3),
        (NOREPINEPHRINE, 8.1, "mcg/min", 80, 4),
        (DOPAMINE, 0.006, "mg/kg/min", 80, 3),
        (DOPAMINE, 4, "mg/kg/min", 1, 2),
        # An unknown dose has the least points of the drug.
        (NOREPINEPHRINE, 50, "mcg/min", 1, 3),
        (NOREPINEPHRINE, 50, "units/hour", 80, 3),
        (NOREPINEPHRINE, 0, "mcg/kg/min", 80, None),
        (221749, 1, "mcg/kg/min", 80, None),  # phenylephrine is not in SOFA
    ]
    patients = [
        Patient(inputs=[(1, item, rate, unit, weight)]) for item, rate, unit, weight, _ in cases
    ]
    found = points_mimic4(tmp_path, "cardiovascular", patients)
    assert found == [points for *_, points in cases]


def test_a_rate_a_minute_without_a_weight_in_its_row_takes_the_charted_weight(
    tmp_path: Path,
) -> None:
    patients = [
        Patient(inputs=[(1, NOREPINEPHRINE, rate, "mcg/min", 1)], chart=[(0, 226512, 80)])
        for rate in (8, 8.1)
    ]
    assert points_mimic4(tmp_path, "cardiovascular", patients) == [3, 4]


def test_infusions_count_where_they_run_unless_rewritten(tmp_path: Path) -> None:
    cases: list[tuple[float, float, str, int | None]] = [
        (-3, 0, "Stopped", 4),
        (-3, -0.1, "Stopped", None),
        (24, 30, "FinishedRunning", 4),
        (24.1, 30, "FinishedRunning", None),
        (1, 2, "Rewritten", None),
    ]
    patients = [
        Patient(metavision=[(start, end, NOREPINEPHRINE, 0.5, status)])
        for start, end, status, _ in cases
    ]
    assert points_mimic4(tmp_path, "cardiovascular", patients) == [points for *_, points in cases]


def test_items_of_carevue_are_not_read(tmp_path: Path) -> None:
    patient = Patient(chart=[(1, 52, 50), (1, 184, 1), (1, 723, 1), (1, 454, 1)])
    assert scores_mimic4(tmp_path, [patient])[0]["sofa"] == 0


# --- the same records in both layouts -------------------------------------------------------------


def random_patient(random: np.random.Generator) -> Patient:
    """Some records of every kind at half hours from 6 hours before the stay to 40 after."""

    def hours(most: int) -> list[float]:
        # A moment has a value of an item once: of two, tables do not say which is read.
        drawn = random.choice(92, random.integers(0, most + 1), replace=False)
        return [float(half) / 2 - 6 for half in drawn]

    def values(item: int, low: float, high: float, most: int) -> list[Value]:
        return [(hour, item, round(random.uniform(low, high), 1)) for hour in hours(most)]

    def one_of(*choices: float | str) -> float | str:
        return choices[random.integers(len(choices))]

    def infusion(hour: float) -> tuple[float, float, int, float, str]:
        item = one_of(NOREPINEPHRINE, EPINEPHRINE, DOPAMINE, DOBUTAMINE)
        rate = one_of(0, 0.05, 0.1, 0.2, 4, 8, 20)
        status = str(one_of("FinishedRunning", "Stopped", "Rewritten"))
        return hour, hour + int(random.integers(0, 12)), int(item), float(rate), status

    gases = [
        gas(hour, int(random.integers(30, 250)), str(one_of("ART", "ART", "VEN")))
        for hour in hours(4)
    ]
    verbal: list[Value] = [(hour, 223900, "No Response-ETT") for hour in hours(2)]
    return Patient(
        lab=[
            *(value for values in gases for value in values),
            *(values(51265, 0, 300, 2) + values(50885, 0, 14, 2) + values(50912, 0, 6, 2)),
        ],
        chart=[
            *(values(220739, 1, 4, 4) + values(223901, 1, 6, 4)),
            *(verbal or values(223900, 1, 5, 4)),
            *(values(220052, 50, 90, 3) + values(220181, 50, 90, 3) + values(223835, 0, 100, 3)),
            *(values(224687, 5, 9, 8) + values(223849, 1, 5, 4)),
            *((hour, 226732, "Nasal cannula") for hour in hours(2)),
        ],
        metavision=[infusion(hour) for hour in hours(2)],
        urine=[
            (hour, int(one_of(226559, 226560, 227488, 227489)), int(random.integers(0, 600)))
            for hour in hours(4)
        ],
        extubated=[(hour, 227194) for hour in hours(1)],
        hours=int(random.integers(4, 72)),
    )


@settings(max_examples=3, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10_000), start=st.integers(-6, 6), length=st.integers(6, 40))
def test_the_same_records_have_the_same_scores_in_both_data_sets(
    seed: int, start: int, length: int
) -> None:
    random = np.random.default_rng(seed)
    group = [random_patient(random) for _ in range(50)]
    window = (start, start + length)
    with TemporaryDirectory() as first, TemporaryDirectory() as second:
        mimic3 = scores(Path(first), group, window)
        mimic4 = scores_mimic4(Path(second), group, window)
    assert mimic4 == mimic3
    # The comparison is of something.
    assert all(len({row[name] for row in mimic3}) > 2 for name in COMPONENTS)
