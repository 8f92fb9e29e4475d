"""The numbers of an adapter message: float32, float16, or int8 with a scale a matrix.

A number has one spelling on the wire, so that the choice between two can tell nothing:

* zero is positive;
* float32 has no subnormals: below 2^-126 a number is sent as zero. Those of float16 are numbers
  that an adapter may well have, and stay;
* a matrix in int8 is all zero, with a scale of 0.0; or its largest level is 127 or -127, its scale
  that largest magnitude / 127 as float32 rounds it, positive, finite and not subnormal.

NaN and infinities have many spellings, and none that a reader accepts.

The layers' names of an adapter message as one short text, and back.

Layers of one size are a group; groups are separated by ``|``, names by spaces, and a name is
written as the number of characters that it shares with the one before, a colon, and the rest.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from common.adapter.adapter import MAX_NAME_LENGTH, Adapter, shown
from common.adapter.serialization.header import DTYPES, SCALE, TensorSpan, refused
from common.errors import AdapterError

_CODED_NAME = re.compile(r"([0-9]{1,3}):([A-Za-z0-9_.-]*)")


def group_layers(adapter: Adapter) -> list[list[str]]:
    """The adapter's layers by size (in, out); names sorted, sizes in the order of their first."""
    groups: dict[tuple[int, int], list[str]] = {}
    for module in adapter.modules:
        a, b = adapter.pair(module)
        groups.setdefault((a.shape[1], b.shape[0]), []).append(module)
    return list(groups.values())


def names_to_text(groups: Iterable[Sequence[str]]) -> str:
    """Write the groups: ``block.0.q`` then ``block.0.v`` is ``0:block.0.q 8:v``."""
    return "|".join(_front_coded(names) for names in groups)


def read_groups(
    text: str, tensors: Mapping[str, TensorSpan], factors: Iterable[str]
) -> list[list[str]]:
    """Read the groups; as many of them as tensors of each factor, as many names as matrices.

    Args:
        text: as `names_to_text` writes it.
        tensors: the message's tensors.
        factors: ``A`` and ``B``, or ``B`` alone: the factors that travel.

    Raises:
        AdapterError: where names and tensors do not fit, or a layer is named twice.
    """
    groups = [_names_from_text(part) for part in text.split("|")]
    expected = {f"{factor}.{group}" for group in range(len(groups)) for factor in factors}
    if {name for name in tensors if not name.endswith(SCALE)} != expected:
        raise refused(f"{len(groups)} groups of layers do not fit the {len(tensors)} tensors")
    for name in tensors:
        modules = groups[int(name.split(".")[1])]
        if tensors[name].shape[0] != len(modules):
            raise refused(f"tensor {name} is not for its {len(modules)} layers")
    names = [module for modules in groups for module in modules]
    if len(set(names)) != len(names):
        raise refused("a layer is named twice")
    return groups


def _front_coded(names: Sequence[str]) -> str:
    coded = []
    previous = ""
    for name in names:
        kept = _shared_length(previous, name)
        coded.append(f"{kept}:{name[kept:]}")
        previous = name
    return " ".join(coded)


def _shared_length(first: str, second: str) -> int:
    """How many characters two names have in common at their beginning."""
    differ = (i for i, (a, b) in enumerate(zip(first, second, strict=False)) if a != b)
    return next(differ, min(len(first), len(second)))


def _names_from_text(text: str) -> list[str]:
    names = []
    previous = ""
    for coded in text.split(" "):
        match = _CODED_NAME.fullmatch(coded)
        if match is None or int(match[1]) > len(previous):
            raise refused(f"layer names are damaged at {shown(coded)}")
        previous = previous[: int(match[1])] + match[2]
        if len(previous) > MAX_NAME_LENGTH:  # or a short text could stand for endless names
            raise refused(f"a layer's name is longer than {MAX_NAME_LENGTH} characters")
        names.append(previous)
    return names


WireDtype = Literal["float32", "float16", "int8"]

CODES: dict[str, str] = {"float32": "F32", "float16": "F16", "int8": "I8"}
_FLOAT16_MAX = 65504.0
_INT8_MAX = 127
_LEAST: Mapping[str, np.floating[Any]] = {
    "float32": np.finfo(np.float32).smallest_normal,
    "float16": np.finfo(np.float16).smallest_subnormal,
}
"""The smallest magnitude beside zero that is sent."""
_LARGEST_SCALE = np.nextafter(np.finfo(np.float32).max / np.float32(_INT8_MAX), np.float32(0))
"""127 times the next one is infinite in float32."""

Stack = npt.NDArray[np.float32]
"""The matrices of one group of layers, ``[layers, rows, columns]``."""


def to_wire(name: str, stack: Stack, dtype: str, label: str) -> dict[str, npt.NDArray[Any]]:
    """Return the tensors that carry a stack of matrices: itself, and its scales where it is int8.

    NaN and infinities pass, so that the receiver can name them; in int8 they make their whole
    matrix NaN, through its scale.

    Args:
        name: of the tensor, e.g. ``B.0``.
        stack: the matrices.
        dtype: a key of `CODES`.
        label: how messages call the stack.

    Raises:
        AdapterError: where a finite number does not fit into float16.
    """
    if dtype == "int8":
        return _quantised(name, stack)
    if dtype == "float16":
        too_large = np.isfinite(stack) & (np.abs(stack) > _FLOAT16_MAX)
        if too_large.any():
            raise AdapterError(
                f"{label} holds {stack[too_large][0]:g}, float16 ends at {_FLOAT16_MAX:g}; "
                "send float32"
            )
    with np.errstate(invalid="ignore"):  # some processors flag a signalling NaN
        numbers = stack.astype(DTYPES[CODES[dtype]])
        numbers[np.abs(numbers) < _LEAST[dtype]] = 0.0  # among them -0.0
    return {name: numbers}


def from_wire(data: bytes, start: int, tensors: Mapping[str, TensorSpan], name: str) -> Stack:
    """Return a checked tensor's matrices as float32, read-only.

    Args:
        data: the message.
        start: where its numbers begin.
        tensors: the message's checked tensors.
        name: which one.
    """
    span = tensors[name]
    raw = _numbers(data, start, span)
    with np.errstate(invalid="ignore", over="ignore"):  # some processors flag a signalling NaN
        stack = raw.astype(np.float32)
        if span.dtype == DTYPES["I8"]:
            stack *= _numbers(data, start, tensors[name + SCALE])
    stack.flags.writeable = False
    return stack


def _quantised(name: str, stack: Stack) -> dict[str, npt.NDArray[Any]]:
    """Symmetric int8: each matrix divided by its largest magnitude / 127, rounded to nearest."""
    largest = np.abs(stack).max(axis=(1, 2), keepdims=True)
    scale = (largest / np.float32(_INT8_MAX)).astype("<f4")
    # An infinity would come back as 0 x inf where another number of its matrix is zero.
    scale[~np.isfinite(scale)] = np.nan
    scale[scale < _LEAST["float32"]] = 0.0
    scale = np.minimum(scale, _LARGEST_SCALE)
    divisor = np.where(scale > 0, scale, np.float32(np.inf))
    with np.errstate(invalid="ignore"):
        levels = np.nan_to_num(np.rint(stack / divisor), nan=0.0)
    levels = np.clip(levels, -_INT8_MAX, _INT8_MAX).astype(np.int8)
    return {name: levels, name + SCALE: scale}


def _numbers(data: bytes, start: int, span: TensorSpan) -> npt.NDArray[Any]:
    count = math.prod(span.shape)
    return np.frombuffer(data, span.dtype, count, start + span.begin).reshape(span.shape)
