from __future__ import annotations

import random

import numpy as np
import pytest
import torch

from client.training.random_source import Randomness

COUNT = 200_000


def test_a_seed_repeats_and_another_does_not() -> None:
    first = Randomness.of_seed(5)
    again = Randomness.of_seed(5)
    np.testing.assert_array_equal(first.uniform(9), again.uniform(9))
    np.testing.assert_array_equal(first.normal(9), again.normal(9))
    assert not np.array_equal(first.normal(9), first.normal(9))
    assert not np.array_equal(Randomness.of_seed(6).normal(9), Randomness.of_seed(5).normal(9))


def test_no_seed_of_a_library_reaches_the_systems_numbers() -> None:
    drawn = []
    for _ in range(2):
        random.seed(1)
        np.random.seed(1)  # noqa: NPY002  # the very seed that must not matter
        torch.manual_seed(1)
        drawn.append(Randomness.of_system().normal(8))
    assert not np.array_equal(drawn[0], drawn[1])


def test_all_bits_of_a_word_are_used() -> None:
    low, high = Randomness(lambda count: b"\x00" * count), Randomness(lambda count: b"\xff" * count)
    assert low.uniform(1)[0] == 0.0
    assert high.uniform(1)[0] == 1.0 - 2.0**-53
    assert np.isfinite(low.normal(3)).all()
    assert np.isfinite(high.normal(3)).all()


def test_uniform_numbers_are_uniform() -> None:
    drawn = Randomness.of_seed(1).uniform(COUNT)
    counts, _ = np.histogram(drawn, bins=50, range=(0.0, 1.0))
    expected = COUNT / 50
    assert ((counts - expected) ** 2 / expected).sum() < 85.4  # chi-square of 49, p = 0.001


def test_normal_numbers_have_the_moments_and_tails_of_the_normal() -> None:
    drawn = Randomness.of_seed(2).normal(COUNT)
    assert drawn.mean() == pytest.approx(0.0, abs=4 / np.sqrt(COUNT))
    assert drawn.std() == pytest.approx(1.0, abs=4 / np.sqrt(2 * COUNT))
    assert (drawn**4).mean() == pytest.approx(3.0, abs=4 * np.sqrt(96 / COUNT))
    for bound, share in ((1.0, 0.317311), (2.0, 0.0455003), (3.0, 0.0026998)):
        deviation = np.sqrt(share * (1 - share) / COUNT)
        assert (np.abs(drawn) > bound).mean() == pytest.approx(share, abs=4 * deviation)


def test_the_two_halves_of_a_pair_are_unrelated() -> None:
    drawn = Randomness.of_seed(3).normal(COUNT)
    halves = drawn[: COUNT // 2], drawn[COUNT // 2 :]
    for left, right in (halves, (np.abs(halves[0]), np.abs(halves[1]))):
        assert abs(np.corrcoef(left, right)[0, 1]) < 4 / np.sqrt(COUNT / 2)


@pytest.mark.parametrize("count", [0, 1, 2, 7])
def test_the_count_is_exact(count: int) -> None:
    assert Randomness.of_seed(1).normal(count).shape == (count,)
    assert Randomness.of_seed(1).uniform(count).shape == (count,)
