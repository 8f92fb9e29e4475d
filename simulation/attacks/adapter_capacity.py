"""How many bits an app could hide in the numbers of one adapter that the gate lets pass.

Every message that the gate passes is the only one of its numbers, so that a message can tell as
much as there are sets of numbers. The bound here counts those: each number by itself, within the
norm that all of them together may have. It is nearly reached, since a small number has as many
digits as a large one.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from common.adapter.serialization.header import SCALE

_DIGITS = {"float32": 23, "float16": 10}
_SMALLEST = {"float32": -126, "float16": -14}
"""Power of two of the smallest number that is not subnormal."""
_LEVELS = 127


def capacity_bits(matrices: Iterable[int], dtype: str, max_norm: float) -> float:
    """Return an upper bound on the bits that one message can tell by its numbers.

    Args:
        matrices: how many numbers each matrix on the wire has.
        dtype: the run's numbers on the wire: float32, float16 or int8.
        max_norm: the largest Euclidean norm of all numbers together that the policy allows.
    """
    if dtype != "int8":
        return sum(matrices) * math.log2(_values(dtype, max_norm))
    scales = (_values("float32", max_norm / _LEVELS) - 1) // 2  # positive ones
    return sum(_int8_bits(numbers, scales) for numbers in matrices)


def message_capacity_bits(
    tensors: Iterable[tuple[str, str, Sequence[int]]], max_norm: float
) -> float:
    """Return the same of a message as the gate and its audit log describe it.

    Args:
        tensors: name, type and shape [layers, rows, columns] of each tensor on the wire.
        max_norm: as in `capacity_bits`.
    """
    stacks = [(dtype, shape) for name, dtype, shape in tensors if not name.endswith(SCALE)]
    matrices = [rows * columns for _, (layers, rows, columns) in stacks for _ in range(layers)]
    return capacity_bits(matrices, stacks[0][0], max_norm)


def _values(dtype: str, largest: float) -> int:
    """How many values a number can have that is no larger than that: both signs, and one zero.

    float32 without subnormals, which are not sent; float16 with them.
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
    """All zero; or a scale, and levels in -127..127 of which at least one is at an end."""
    if scales < 1:
        return 0.0
    count, inner = 2 * _LEVELS + 1, 2 * _LEVELS - 1
    with_end = -math.expm1(numbers * math.log(inner / count))  # share that has a level at an end
    bits = numbers * math.log2(count) + math.log2(with_end) + math.log2(scales)
    return bits + math.log1p(2.0**-bits) / math.log(2)
