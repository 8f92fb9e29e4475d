"""Mean pressure and vasopressors."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.simulation.cohorts.mimic.sofa_patients import Patient, Value, points, scores

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
