from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from client.training.clipping import clip_factors, clipped


@given(
    values=st.lists(
        st.lists(st.floats(-(2.0**50), 2.0**50, width=32), min_size=6, max_size=6),
        min_size=1,
        max_size=5,
    ),
    clip_norm=st.floats(1e-4, 1e4),
)
def test_a_clipped_norm_is_never_above_c(values: list[list[float]], clip_norm: float) -> None:
    before = torch.tensor(values)
    first, second = before[:, :2].reshape(-1, 1, 2), before[:, 2:].reshape(-1, 2, 2)
    factors = clip_factors({"first": first, "second": second}, clip_norm)
    after = torch.cat([clipped(part, factors).flatten(1) for part in (first, second)], dim=1)
    norms, norms_before = after.norm(dim=1), before.double().norm(dim=1)
    assert (norms <= clip_norm).all()
    for row in range(len(values)):
        if norms_before[row] < clip_norm * 0.9999:
            torch.testing.assert_close(after[row], before[row].double(), rtol=0, atol=0)
        elif norms_before[row] > 1e-15:
            wanted = before[row].double() * (clip_norm / norms_before[row])
            assert float((after[row] - wanted).norm()) <= 1e-7 * clip_norm


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_gradient_that_is_not_finite_counts_as_zero(value: float) -> None:
    gradient = torch.ones(3, 2, 2)
    gradient[1, 0, 1] = value
    other = torch.ones(3, 1, 2)
    factors = clip_factors({"gradient": gradient, "other": other}, 10.0)
    assert factors.tolist() == [1.0, 0.0, 1.0]
    assert not clipped(gradient, factors)[1].any()
    assert not clipped(other, factors)[1].any()
    assert torch.equal(clipped(gradient, factors)[[0, 2]], torch.ones(2, 2, 2).double())
    assert torch.equal(clipped(other, factors)[[0, 2]], torch.ones(2, 1, 2).double())
