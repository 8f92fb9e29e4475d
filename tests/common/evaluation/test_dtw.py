from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from common.evaluation.metrics import warping_distance

Array = npt.NDArray[np.float64]


def obvious_distance(first: list[float], second: list[float]) -> float:
    """Sakoe and Chiba's recurrence, written out for one pair."""
    n, m = len(first), len(second)
    g = [[float("inf")] * m for _ in range(n)]
    for i in range(n):
        for j in range(m):
            d = abs(first[i] - second[j])
            ways = [2 * d] if i == j == 0 else []
            if i:
                ways.append(g[i - 1][j] + d)
            if j:
                ways.append(g[i][j - 1] + d)
            if i and j:
                ways.append(g[i - 1][j - 1] + 2 * d)
            g[i][j] = min(ways)
    return g[-1][-1] / (n + m)


numbers = st.floats(-100, 100, width=32)


@given(
    arrays(np.float64, (2, 4, 6), elements=numbers),
    st.lists(st.integers(1, 6), min_size=4, max_size=4),
)
def test_batches_agree_with_the_plain_recurrence(pair: Array, length: list[int]) -> None:
    distance = warping_distance(pair[0], pair[1], np.array(length))
    expected = [
        obvious_distance(pair[0, row, :n].tolist(), pair[1, row, :n].tolist())
        for row, n in enumerate(length)
    ]
    np.testing.assert_allclose(distance, expected, rtol=1e-12, atol=1e-12)


@given(arrays(np.float64, (2, 3, 5), elements=numbers))
def test_it_is_symmetric_and_at_most_the_mean_absolute_difference(pair: Array) -> None:
    length = np.full(3, 5)
    distance = warping_distance(pair[0], pair[1], length)
    np.testing.assert_allclose(distance, warping_distance(pair[1], pair[0], length), atol=1e-12)
    assert (distance <= np.abs(pair[0] - pair[1]).mean(axis=1) + 1e-9).all()


def test_a_peak_one_step_late_is_forgiven() -> None:
    peak = np.array([[0.0, 5.0, 0.0, 0.0]])
    late = np.array([[0.0, 0.0, 5.0, 0.0]])
    assert warping_distance(peak, late, np.array([4])) == pytest.approx([0.0])


def test_a_constant_offset_is_not_forgiven() -> None:
    flat = np.zeros((1, 4))
    assert warping_distance(flat, flat + 3.0, np.array([4])) == pytest.approx([3.0])


def test_no_step_gives_no_distance() -> None:
    assert warping_distance(np.ones((1, 3)), np.zeros((1, 3)), np.array([0])) == pytest.approx([0])
