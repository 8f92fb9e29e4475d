from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.adapter.low_rank import LowRankSum

FACTORS = st.just(0.0) | st.floats(1e-6, 3) | st.floats(-3, -1e-6)
"""As weights and scalings are; the square of 1e-200 is zero, and so would the tolerance be."""


@given(
    st.integers(1, 12),
    st.integers(1, 12),
    st.lists(st.tuples(st.integers(1, 4), FACTORS), max_size=8),
    st.integers(0, 1000),
)
def test_equals_numpys_svd_of_the_formed_sum(
    rows: int, columns: int, terms: list[tuple[int, float]], seed: int
) -> None:
    random = np.random.default_rng(seed)
    summed, formed = LowRankSum(rows, columns), np.zeros((rows, columns))
    for width, factor in terms:
        left, right = random.normal(size=(rows, width)), random.normal(size=(width, columns))
        summed.add(factor, left.astype(np.float32), right.astype(np.float32))
        formed += factor * left.astype(np.float32).astype(float) @ right.astype(np.float32)
    u, s, v = summed.svd()
    largest = float(np.linalg.norm(formed))
    np.testing.assert_allclose((u * s) @ v, formed, atol=1e-5 * largest + 1e-9)
    np.testing.assert_allclose(u.T @ u, np.eye(len(s)), atol=1e-9)
    np.testing.assert_allclose(v @ v.T, np.eye(len(s)), atol=1e-9)
    expected = np.linalg.svd(formed, compute_uv=False)[: len(s)]
    np.testing.assert_allclose(s, expected, atol=1e-9 * largest)
    assert (s > 0).all()
    assert (np.diff(s) <= 0).all()


@pytest.mark.parametrize("terms", [2, 20])
def test_no_bit_depends_on_what_happens_to_the_terms_later(terms: int) -> None:
    random = np.random.default_rng(0)
    summed, twin = LowRankSum(9, 8), LowRankSum(9, 8)
    for _ in range(terms):
        left, right = random.normal(size=(9, 1)), random.normal(size=(1, 8))
        twin.add(0.5, left.copy(), right.copy())
        summed.add(0.5, left, right)
        left[:], right[:] = 0, 0
    for mine, theirs in zip(summed.svd(), twin.svd(), strict=True):
        assert mine.tobytes() == theirs.tobytes()


@pytest.mark.parametrize("side", [4, 40])
def test_cancelled_terms_leave_no_direction(side: int) -> None:
    random = np.random.default_rng(0)
    left = random.normal(size=(side, 3)).astype(np.float32)
    right = random.normal(size=(3, side)).astype(np.float32)
    summed = LowRankSum(side, side)
    for factor in (0.1, 0.2, -0.3):
        summed.add(factor, left, right)
    u, s, v = summed.svd()
    assert (u.shape, s.shape, v.shape) == ((side, 0), (0,), (0, side))


@pytest.mark.parametrize("side", [4, 40])
def test_signs_are_fixed(side: int) -> None:
    random = np.random.default_rng(1)
    left, right = random.normal(size=(side, 3)), random.normal(size=(3, side))
    for sign in (1.0, -1.0):
        summed = LowRankSum(side, side)
        summed.add(sign, left, right)
        u, _, _ = summed.svd()
        assert (u[np.abs(u).argmax(axis=0), range(3)] > 0).all()
