"""An adapter's matrices as the named tensors of a message, and back.

Layers of the same size share two tensors: ``A.0`` [layers, rank, in] and ``B.0`` [layers, out,
rank]; layers of the next size share ``A.1`` and ``B.1``, and so on. One tensor a matrix under
PEFT's names would add 4.4 % to the adapter of a small backbone; this adds 0.5 %.

The layers' names are one short text in the metadata: groups are separated by ``|``, names by
spaces, and a name is the number of characters that it shares with the one before, a colon, and the
rest.

The numbers are float32, float16, or int8 with one scale a matrix in ``A.0.scale`` [layers, 1, 1].
Each number has exactly one representation, so that a sender cannot encode anything in the choice
between two:

* zero is positive;
* float32 has no subnormals: below 2^-126 a number is sent as zero. Those of float16 are within the
  range of an adapter's numbers and are kept;
* a matrix in int8 is all zero, with a scale of 0.0; or its largest level is 127 or -127, its scale
  that largest magnitude / 127 as float32 rounds it, positive, finite and not subnormal.

NaN and infinities have many representations; a reader accepts none of them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from common.adapter.adapter import MAX_NAME_LENGTH, Adapter, Matrix, shown, tensor_name
from common.adapter.serialization.header import DTYPES, SCALE, Header, TensorSpan, refused
from common.errors import AdapterError

WireDtype = Literal["float32", "float16", "int8"]

CODES: dict[str, str] = {"float32": "F32", "float16": "F16", "int8": "I8"}
FACTORS: Mapping[str, str] = {"ab": "AB", "b": "B"}
"""The factors that are sent, by what is trained."""

_FLOAT16_MAX = 65504.0
_INT8_MAX = 127
_LEAST: Mapping[str, np.floating[Any]] = {
    "float32": np.finfo(np.float32).smallest_normal,
    "float16": np.finfo(np.float16).smallest_subnormal,
}
"""The smallest magnitude beside zero that is sent."""
_LARGEST_SCALE = np.nextafter(np.finfo(np.float32).max / np.float32(_INT8_MAX), np.float32(0))
"""127 times the next larger float32 overflows."""
_CODED_NAME = re.compile(r"([0-9]{1,3}):([A-Za-z0-9_.-]*)")

Stack = npt.NDArray[np.float32]
"""The matrices of one group of layers, ``[layers, rows, columns]``."""


def encode_layers(
    adapter: Adapter, dtype: str, trained: str
) -> tuple[str, dict[str, npt.NDArray[Any]]]:
    """Return the layers' names as text, and the tensors by name in the order of their bytes.

    Args:
        adapter: the adapter to send.
        dtype: a key of `CODES`.
        trained: a key of `FACTORS`.

    Raises:
        AdapterError: where a finite number does not fit into float16.
    """
    groups = _group_by_size(adapter)
    tensors: dict[str, npt.NDArray[Any]] = {}
    for factor in FACTORS[trained]:
        for group, modules in enumerate(groups):
            stack = np.stack([adapter.pair(module)["AB".index(factor)] for module in modules])
            label = f"{factor} of {modules[0]} and its like"
            tensors |= to_wire(f"{factor}.{group}", stack, dtype, label)
    return _names_to_text(groups), tensors


def _group_by_size(adapter: Adapter) -> list[list[str]]:
    """The adapter's layers by size (in, out); names sorted, sizes in the order of their first."""
    groups: dict[tuple[int, int], list[str]] = {}
    for module in adapter.modules:
        a, b = adapter.pair(module)
        groups.setdefault((a.shape[1], b.shape[0]), []).append(module)
    return list(groups.values())


def _names_to_text(groups: Iterable[Sequence[str]]) -> str:
    """The groups as text: ``block.0.q`` then ``block.0.v`` is ``0:block.0.q 8:v``."""
    return "|".join(_front_coded(names) for names in groups)


def _front_coded(names: Sequence[str]) -> str:
    coded = []
    previous = ""
    for name in names:
        kept = _shared_length(previous, name)
        coded.append(f"{kept}:{name[kept:]}")
        previous = name
    return " ".join(coded)


def _shared_length(first: str, second: str) -> int:
    """Length of the longest common prefix of two names."""
    differ = (i for i, (a, b) in enumerate(zip(first, second, strict=False)) if a != b)
    return next(differ, min(len(first), len(second)))


def to_wire(name: str, stack: Stack, dtype: str, label: str) -> dict[str, npt.NDArray[Any]]:
    """Return the tensors of a stack of matrices: itself, and its scales in int8.

    NaN and infinities pass, so that the receiver can name them; in int8 they make their whole
    matrix NaN, through its scale.

    Args:
        name: the tensor's name, e.g. ``B.0``.
        stack: the matrices.
        dtype: a key of `CODES`.
        label: the stack's name in error messages.

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


def decode_layers(data: bytes, header: Header) -> dict[str, Matrix]:
    """Return the matrices of a message by PEFT's name, as float32, read-only.

    Args:
        data: the message.
        header: its checked header.

    Raises:
        AdapterError: as `read_layout`.
    """
    factors, groups = read_layout(header)
    matrices: dict[str, Matrix] = {}
    for group, modules in enumerate(groups):
        for factor in factors:
            stack = from_wire(data, header, f"{factor}.{group}")
            for module, matrix in zip(modules, stack, strict=True):
                matrices[tensor_name(module, factor)] = matrix
    return matrices


def read_layout(header: Header) -> tuple[str, list[list[str]]]:
    """Return the factors that are sent, ``AB`` or ``B``, and the layers' names by group.

    Raises:
        AdapterError: where the metadata contradict themselves or do not fit the tensors.
    """
    factors = FACTORS.get(header.metadata["trained"])
    if factors is None:
        raise refused(f"metadata trained is {shown(header.metadata['trained'])}, not ab or b")
    if (factors == "AB") != (header.metadata["frozen_a"] == ""):
        raise refused("metadata frozen_a names a shared A where, and only where, it is left out")
    groups = [_names_from_text(part) for part in header.metadata["modules"].split("|")]
    _check_groups(groups, header.tensors, factors)
    return factors, groups


def _names_from_text(text: str) -> list[str]:
    names = []
    previous = ""
    for coded in text.split(" "):
        match = _CODED_NAME.fullmatch(coded)
        if match is None or int(match[1]) > len(previous):
            raise refused(f"layer names are damaged at {shown(coded)}")
        previous = previous[: int(match[1])] + match[2]
        if len(previous) > MAX_NAME_LENGTH:  # or a short text could expand without bound
            raise refused(f"a layer's name is longer than {MAX_NAME_LENGTH} characters")
        names.append(previous)
    return names


def _check_groups(
    groups: Sequence[Sequence[str]], tensors: Mapping[str, TensorSpan], factors: str
) -> None:
    """Check one tensor a factor and group, one matrix a layer, and no layer named twice."""
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


def from_wire(data: bytes, header: Header, name: str) -> Stack:
    """Return the matrices of one tensor as float32, read-only.

    Args:
        data: the message.
        header: its checked header.
        name: the tensor's name.
    """
    span = header.tensors[name]
    raw = _numbers(data, header.start, span)
    with np.errstate(invalid="ignore", over="ignore"):  # some processors flag a signalling NaN
        stack = raw.astype(np.float32)
        if span.dtype == DTYPES["I8"]:
            stack *= _numbers(data, header.start, header.tensors[name + SCALE])
    stack.flags.writeable = False
    return stack


def _numbers(data: bytes, start: int, span: TensorSpan) -> npt.NDArray[Any]:
    count = math.prod(span.shape)
    return np.frombuffer(data, span.dtype, count, start + span.begin).reshape(span.shape)
