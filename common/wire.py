"""An adapter as bytes, and those bytes as the one Array that a Flower message carries.

One Array, because Flower stores and sends each Array as objects of their own: 4 MB as 400 arrays
take ten times as long as 4 MB in one. The bytes are a safetensors file (see `common.wire_header`),
which holds numbers and names and can hold no code.

Layers of the same size share two tensors: ``A.0`` [layers, rank, in] and ``B.0`` [layers, out,
rank]; layers of the next size share ``A.1`` and ``B.1``, and so on. The metadata's ``modules``
gives the layers' names in that order. One tensor a matrix under PEFT's names would add 4.4 % to the
adapter of a small backbone; this adds 0.5 %.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from common.adapter import MAX_NAME_LENGTH, Adapter, Matrix, shown, tensor_name
from common.errors import AdapterError
from common.wire_header import (
    DTYPES,
    FORMAT,
    LENGTH_BYTES,
    MAX_HEADER_BYTES,
    METADATA,
    TensorSpan,
    read_header,
    refused,
)

if TYPE_CHECKING:
    from flwr.app import ArrayRecord

WireDtype = Literal["float32", "float16"]

ARRAY_KEY = "adapter"
ARRAY_DTYPE = "uint8"
ARRAY_STYPE = "safetensors"

DEFAULT_MAX_BYTES = 64 * 2**20
"""The largest message accepted unless told otherwise; Chronos-2 at rank 16 needs 9 MB."""

_CODES: Mapping[str, str] = {"float32": "F32", "float16": "F16"}
_FLOAT16_MAX = 65504.0
_RANK = re.compile(r"[1-9][0-9]{0,8}")
_CODED_NAME = re.compile(r"([0-9]{1,3}):([A-Za-z0-9_.-]*)")


def encode(adapter: Adapter, dtype: WireDtype = "float32") -> bytes:
    """Write an adapter as safetensors bytes; equal adapters give equal bytes.

    Args:
        adapter: what to send. NaN and infinities pass, so that the receiver can name them.
        dtype: the numbers on the wire; float16 halves them and keeps about three digits.

    Raises:
        AdapterError: where the type is unknown, a finite number does not fit into float16, or the
            layers' names do not fit into the header.
    """
    if dtype not in _CODES:
        raise AdapterError(f"unknown wire type {shown(dtype)}; use {' or '.join(_CODES)}")
    groups = _groups(adapter)
    entries: dict[str, Any] = {METADATA: _metadata(adapter, list(groups.values()))}
    blocks: list[bytes] = []
    begin = 0
    for factor_index, factor in enumerate("AB"):
        for group, modules in enumerate(groups.values()):
            stack = np.stack([adapter.pair(module)[factor_index] for module in modules])
            block = _to_wire(stack, dtype, f"{factor} of {modules[0]} and its like").tobytes()
            entries[f"{factor}.{group}"] = {
                "dtype": _CODES[dtype],
                "shape": list(stack.shape),
                "data_offsets": [begin, begin + len(block)],
            }
            blocks.append(block)
            begin += len(block)
    header = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode()
    header += b" " * (-len(header) % 8)  # safetensors keeps the numbers aligned
    if len(header) > MAX_HEADER_BYTES:
        raise AdapterError(
            f"the names of {len(adapter.modules)} layers need {len(header)} bytes, "
            f"at most {MAX_HEADER_BYTES} can be sent; adapt fewer layers"
        )
    return b"".join([len(header).to_bytes(LENGTH_BYTES, "little"), header, *blocks])


def decode(
    data: bytes, *, max_bytes: int = DEFAULT_MAX_BYTES, require_finite: bool = True
) -> Adapter:
    """Read an adapter from bytes that anybody may have written.

    Args:
        data: a message made by `encode`.
        max_bytes: refuse longer messages.
        require_finite: refuse NaN and infinities; a caller who passes False asks
            `Adapter.first_nonfinite` itself.

    Raises:
        AdapterError: for every message that `encode` would not have made in substance.
    """
    header = read_header(data, max_bytes)
    metadata = header.metadata
    groups = _check_groups(metadata["modules"], header.tensors)
    matrices: dict[str, Matrix] = {}
    for group, modules in enumerate(groups):
        for factor in "AB":
            stack = _from_wire(data, header.start, header.tensors[f"{factor}.{group}"])
            for module, matrix in zip(modules, stack, strict=True):
                matrices[tensor_name(module, factor)] = matrix
    adapter = Adapter(
        matrices,
        rank=_rank(metadata),
        alpha=_number(metadata, "alpha"),
        target_modules=metadata["target_modules"],
        backbone=metadata["backbone"],
        backbone_digest=metadata["backbone_digest"],
        dropout=_number(metadata, "dropout"),
    )
    if require_finite and (name := adapter.first_nonfinite()) is not None:
        raise refused(f"not finite: {name}")
    return adapter


def to_record(adapter: Adapter, dtype: WireDtype = "float32") -> ArrayRecord:
    """Wrap an adapter for a Flower message: one Array under the key ``adapter``.

    Raises:
        AdapterError: as `encode`.
    """
    from flwr.app import Array, ArrayRecord

    data = encode(adapter, dtype)
    array = Array(dtype=ARRAY_DTYPE, shape=(len(data),), stype=ARRAY_STYPE, data=data)
    return ArrayRecord({ARRAY_KEY: array})


def from_record(
    record: ArrayRecord, *, max_bytes: int = DEFAULT_MAX_BYTES, require_finite: bool = True
) -> Adapter:
    """Unwrap the adapter of a Flower message.

    Args:
        record: what arrived; it must be as `to_record` makes it.
        max_bytes: as in `decode`.
        require_finite: as in `decode`.

    Raises:
        AdapterError: for every other record.
    """
    if list(record) != [ARRAY_KEY]:
        raise refused(f"expected one array {ARRAY_KEY!r}, got {shown(list(record))}")
    array = record[ARRAY_KEY]
    # Flower checks neither the declared type nor the shape against the bytes.
    declared = (array.stype, array.dtype, list(array.shape))
    if declared != (ARRAY_STYPE, ARRAY_DTYPE, [len(array.data)]):
        raise refused(
            f"expected {ARRAY_STYPE} bytes of shape [{len(array.data)}], the array says "
            f"{shown(declared)}"
        )
    return decode(array.data, max_bytes=max_bytes, require_finite=require_finite)


def _check_groups(text: str, tensors: Mapping[str, TensorSpan]) -> list[list[str]]:
    """As many groups of layers as pairs of tensors, as many names in each as matrices."""
    groups = [_names_from_text(part) for part in text.split("|")]
    expected = {f"{factor}.{group}" for group in range(len(groups)) for factor in "AB"}
    if tensors.keys() != expected:
        raise refused(f"{len(groups)} groups of layers do not fit the {len(tensors)} tensors")
    for group, modules in enumerate(groups):
        for factor in "AB":
            if tensors[f"{factor}.{group}"].shape[0] != len(modules):
                raise refused(f"tensor {factor}.{group} is not for its {len(modules)} layers")
    names = [module for modules in groups for module in modules]
    if len(set(names)) != len(names):
        raise refused("a layer is named twice")
    return groups


def _rank(metadata: Mapping[str, str]) -> int:
    if not _RANK.fullmatch(metadata["rank"]):
        raise refused(f"metadata rank is {shown(metadata['rank'])}, not a positive integer")
    return int(metadata["rank"])


def _number(metadata: Mapping[str, str], key: str) -> float:
    """A float written as `repr` writes it, so that one number has one text."""
    try:
        value = float(metadata[key])
    except ValueError:
        raise refused(f"metadata {key} is {shown(metadata[key])}, not a number") from None
    if repr(value) != metadata[key]:
        raise refused(f"metadata {key} is {shown(metadata[key])}, expected {value!r}")
    return value


def _groups(adapter: Adapter) -> dict[tuple[int, int], list[str]]:
    """The adapter's layers by size (in, out); names sorted, sizes in the order of their first."""
    groups: dict[tuple[int, int], list[str]] = {}
    for module in adapter.modules:
        a, b = adapter.pair(module)
        groups.setdefault((a.shape[1], b.shape[0]), []).append(module)
    return groups


def _metadata(adapter: Adapter, groups: Sequence[Sequence[str]]) -> dict[str, str]:
    return {
        "alpha": repr(adapter.alpha),
        "backbone": adapter.backbone,
        "backbone_digest": adapter.backbone_digest,
        "dropout": repr(adapter.dropout),
        "format": FORMAT,
        "modules": "|".join(_names_to_text(modules) for modules in groups),
        "rank": str(adapter.rank),
        "target_modules": adapter.target_modules,
    }


def _names_to_text(names: Sequence[str]) -> str:
    """Front coding: ``block.0.q`` then ``block.0.v`` is ``0:block.0.q 8:v``."""
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


def _to_wire(stack: np.ndarray[Any, Any], dtype: WireDtype, label: str) -> np.ndarray[Any, Any]:
    if dtype == "float16":
        too_large = np.isfinite(stack) & (np.abs(stack) > _FLOAT16_MAX)
        if too_large.any():
            raise AdapterError(
                f"{label} holds {stack[too_large][0]:g}, float16 ends at {_FLOAT16_MAX:g}; "
                "send float32"
            )
    with np.errstate(invalid="ignore"):  # some processors flag a signalling NaN
        return stack.astype(DTYPES[_CODES[dtype]])


def _from_wire(
    data: bytes, start: int, tensor: TensorSpan
) -> np.ndarray[Any, np.dtype[np.float32]]:
    """The numbers of one checked tensor as float32, read-only."""
    stack = np.frombuffer(data, tensor.dtype, math.prod(tensor.shape), start + tensor.begin)
    with np.errstate(invalid="ignore"):  # some processors flag a signalling NaN
        numbers = stack.astype(np.float32).reshape(tensor.shape)
    numbers.flags.writeable = False
    return numbers
