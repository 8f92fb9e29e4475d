"""The bound on hidden bits, against every value that there is."""

from __future__ import annotations

import math

import numpy as np
import pytest

from simulation.attacks.adapter_capacity import matrix_bits, message_capacity_bits


@pytest.mark.parametrize("largest", [0.0, 1e-7, 2.0**-14, 0.3, 1.0, 50.0, 65504.0, 1e6])
def test_float16_is_counted_value_by_value(largest: float) -> None:
    values = np.arange(2**16, dtype=np.uint16).view(np.float16)
    there = values[np.isfinite(values) & (np.abs(values.astype(np.float64)) <= largest)]
    different = len(np.unique(there))
    assert matrix_bits([1], "float16", largest) == pytest.approx(math.log2(different))


@pytest.mark.parametrize("largest", [0.0, 2.0**-127, 2.0**-126, 0.3, 1.0, 100.0, 3e38, 1e300])
def test_float32_is_counted_from_its_bits(largest: float) -> None:
    with np.errstate(over="ignore"):
        top = np.float32(min(largest, float(np.finfo(np.float32).max)))
    top = top if float(top) <= largest else np.nextafter(top, np.float32(0))
    smallest = int(np.finfo(np.float32).smallest_normal.view(np.uint32))
    positive = max(0, int(top.view(np.uint32)) - smallest + 1)
    assert matrix_bits([1], "float32", largest) == pytest.approx(math.log2(2 * positive + 1))


def test_int8_is_a_scale_and_levels_of_which_one_is_at_an_end() -> None:
    positive = (2 ** matrix_bits([1], "float32", 1.0) - 1) / 2
    for numbers in (1, 2, 3):
        levels = 255**numbers - 253**numbers
        expected = math.log2(positive * levels + 1)  # and the matrix that is all zero
        assert matrix_bits([numbers], "int8", 127.0) == pytest.approx(expected)
    many = matrix_bits([10_000], "int8", 100.0)
    assert 10_000 * math.log2(255) < many < 10_000 * math.log2(255) + 32
    assert matrix_bits([10_000], "int8", 0.0) == 0.0


def test_matrices_add_up() -> None:
    for dtype in ("float32", "float16", "int8"):
        one = matrix_bits([64], dtype, 10.0)
        assert matrix_bits([64, 64], dtype, 10.0) == pytest.approx(2 * one)


def test_an_adapters_own_layout() -> None:
    tensors = (("B.0", "int8", (3, 16, 2)), ("B.0.scale", "float32", (3, 1, 1)))
    bits = message_capacity_bits(tensors, 10.0)
    assert bits == pytest.approx(matrix_bits([32, 32, 32], "int8", 10.0))
