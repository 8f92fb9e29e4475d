"""Upper bound on the bits that an app could hide in the numbers of one adapter.

The gate accepts one encoding per set of numbers, so the capacity of a message is the logarithm of
the number of such sets. The bound counts each number by itself, within the norm allowed for all of
them together. It is nearly tight, since a small number has as many digits as a large one.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from common.adapter.serialization.header import SCALE

_DIGITS = {"float32": 23, "float16": 10}
_SMALLEST = {"float32": -126, "float16": -14}
"""Exponent of the smallest normal number."""
_LEVELS = 127


def matrix_bits(matrices: Iterable[int], dtype: str, max_norm: float) -> float:
    """Return an upper bound on the bits that the numbers of one message can carry.

    Args:
        matrices: number of elements of each matrix on the wire.
        dtype: the run's wire type: float32, float16 or int8.
        max_norm: largest Euclidean norm of all numbers together that the policy allows.
    """
    if dtype != "int8":
        return sum(matrices) * math.log2(_values(dtype, max_norm))
    scales = (_values("float32", max_norm / _LEVELS) - 1) // 2  # positive ones
    return sum(_int8_bits(numbers, scales) for numbers in matrices)


def message_capacity_bits(
    tensors: Iterable[tuple[str, str, Sequence[int]]], max_norm: float
) -> float:
    """Return the same bound for a message, as the gate and its audit log describe it.

    Args:
        tensors: name, type and shape [layers, rows, columns] of each tensor on the wire.
        max_norm: as in `matrix_bits`.
    """
    stacks = [(dtype, shape) for name, dtype, shape in tensors if not name.endswith(SCALE)]
    matrices = [rows * columns for _, (layers, rows, columns) in stacks for _ in range(layers)]
    return matrix_bits(matrices, stacks[0][0], max_norm)


def _values(dtype: str, largest: float) -> int:
    """Return the number of values up to `largest` in size: both signs, and one zero.

    float32 is counted without subnormals, which are not sent; float16 with them.
    """
    digits, smallest = _DIGITS[dtype], _SMALLEST[dtype]
    below = 0 if dtype == "float32" else (1 << digits) - 1  # subnormals
    bounded = min(largest, 65504.0 if dtype == "float16" else (2 - 2**-23) * 2.0**127)
    if bounded < 2.0**smallest:
        steps = int(bounded / 2.0 ** (smallest - digits)) if below else 0
        return 2 * steps + 1
    fraction, power = math.frexp(bounded)  # fraction in [1/2, 1)
    steps = ((power - 1 - smallest) << digits) + int((2 * fraction - 1) * (1 << digits)) + 1
    return 2 * (below + steps) + 1


def _int8_bits(numbers: int, scales: int) -> float:
    """Return the bits of a matrix: all zero, or a scale and levels of which one is -127 or 127."""
    if scales < 1:
        return 0.0
    count, inner = 2 * _LEVELS + 1, 2 * _LEVELS - 1
    with_end = -math.expm1(numbers * math.log(inner / count))  # share that has a level at an end
    bits = numbers * math.log2(count) + math.log2(with_end) + math.log2(scales)
    return bits + math.log1p(2.0**-bits) / math.log(2)
