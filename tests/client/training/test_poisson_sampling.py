from __future__ import annotations

from itertools import pairwise
from math import comb

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from client.training.poisson_sampling import Draw, draw_patients
from client.training.random_source import Randomness

DRAWS, PATIENTS, RATE = 4000, 20, 0.15
ONE_EACH = np.arange(PATIENTS)


def inclusion() -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """[draws, patients], 1 where a patient is in a draw."""
    randomness = Randomness.of_seed(4)
    drawn = np.zeros((DRAWS, PATIENTS))
    for row in drawn:
        row[draw_patients(ONE_EACH, PATIENTS, RATE, 8, randomness).rows] = 1.0
    return drawn


def test_the_number_of_patients_drawn_is_binomial() -> None:
    sizes = inclusion().sum(axis=1).astype(int)
    chances = [
        comb(PATIENTS, k) * RATE**k * (1 - RATE) ** (PATIENTS - k) for k in range(PATIENTS + 1)
    ]
    expected = DRAWS * np.array([*chances[:8], sum(chances[8:])])
    counts = np.bincount(sizes.clip(max=8), minlength=9)
    assert expected.min() > 5
    assert ((counts - expected) ** 2 / expected).sum() < 26.1  # chi-square of 8, p = 0.001


def test_each_patient_has_the_same_chance_whoever_else_is_drawn() -> None:
    drawn = inclusion()
    deviation = np.sqrt(RATE * (1 - RATE) / DRAWS)
    np.testing.assert_allclose(drawn.mean(axis=0), RATE, atol=4 * deviation)
    related = np.corrcoef(drawn.T) - np.eye(PATIENTS)
    assert np.abs(related).max() < 4.5 / np.sqrt(DRAWS)


def test_the_windows_of_a_patient_have_the_same_chance_each() -> None:
    randomness = Randomness.of_seed(5)
    patient = np.array([0, 1, 0, 0, 1, 0, 0])
    counts = np.zeros(7)
    for _ in range(DRAWS):
        counts[draw_patients(patient, 2, 1.0, 2, randomness).rows] += 1
    deviation = np.sqrt(0.4 * 0.6 * DRAWS)
    np.testing.assert_allclose(counts[patient == 0], 0.4 * DRAWS, atol=4 * deviation)
    np.testing.assert_array_equal(counts[patient == 1], DRAWS)


def test_a_draw_may_be_empty_and_a_patient_may_have_no_window() -> None:
    nobody = draw_patients(np.array([0, 1, 1]), 2, 1e-12, 8, Randomness.of_seed(1))
    assert nobody.patients == 0
    assert list(nobody.chunks(4)) == []
    gap = draw_patients(np.array([0, 2, 2]), 3, 1.0, 8, Randomness.of_seed(1))
    assert gap.patients == 2
    assert gap.owner.tolist() == [0, 1, 1]


@given(
    patient=st.lists(st.integers(0, 9), max_size=60),
    rate=st.floats(0.01, 1.0),
    most=st.integers(1, 6),
    spare=st.integers(0, 20),
    seed=st.integers(0, 2**32),
)
def test_a_draw_and_its_chunks_are_sound(
    patient: list[int], rate: float, most: int, spare: int, seed: int
) -> None:
    owners = np.array(patient, np.int64)
    draw = draw_patients(owners, 10, rate, most, Randomness.of_seed(seed))
    assert len(set(draw.rows.tolist())) == len(draw.rows)
    drawn = sorted(set(owners[draw.rows].tolist()))
    for number, who in enumerate(drawn):
        rows = draw.rows[draw.owner == number]
        assert set(owners[rows]) == {who}
        assert len(rows) == min(most, int((owners == who).sum()))
    assert draw.patients == len(drawn)
    _check_chunks(draw, most + spare)


def _check_chunks(draw: Draw, size: int) -> None:
    parts = list(draw.chunks(size))
    assert all(0 < len(part.rows) <= size for part in parts)
    np.testing.assert_array_equal(np.concatenate([[], *(part.rows for part in parts)]), draw.rows)
    before = 0
    for part in parts:
        assert part.owner[0] == 0
        whole = draw.owner[np.isin(draw.rows, part.rows)]
        np.testing.assert_array_equal(part.owner + before, whole)
        before += part.patients
    assert before == draw.patients
    # As few as whole patients allow: no two neighbours would have fitted into one.
    for left, right in pairwise(parts):
        assert len(left.rows) + int((right.owner == 0).sum()) > size


def test_a_patient_with_more_windows_than_a_chunk_is_a_chunk_of_its_own() -> None:
    draw = Draw(np.arange(6), np.array([0, 1, 1, 1, 1, 2]))
    assert [len(part.rows) for part in draw.chunks(2)] == [1, 4, 1]
