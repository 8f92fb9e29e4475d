"""Oxygenation, with and without a ventilator."""

from __future__ import annotations

from pathlib import Path

from tests.simulation.cohorts.mimic.sofa_patients import Patient, Points, Value, gas, points

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
