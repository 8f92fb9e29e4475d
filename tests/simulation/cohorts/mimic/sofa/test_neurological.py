"""The coma scale, charted in three parts."""

from __future__ import annotations

from pathlib import Path

from simulation.cohorts.mimic.sofa.score import SOFA_ITEMS
from tests.simulation.cohorts.mimic.sofa_patients import Patient, Value, points


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
