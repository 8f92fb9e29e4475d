"""Safetensors header of an adapter message, validated before any number is read.

A message is a safetensors file::

    8 bytes   length of the header, little-endian
    header    JSON: {"__metadata__": {text: text}, tensor: {"dtype", "shape", "data_offsets"}, …}
    data      the numbers, little-endian, without gaps

The sender is not trusted. `read_header` validates in this order and raises `AdapterError` at the
first problem: the message's size, the header's length, JSON without duplicate keys and with small
whole numbers only, the metadata, each tensor's type, shape and span, and last that the spans fill
the data without gap or overlap. No allocation depends on a number that the message states.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from common.adapter.adapter import shown
from common.errors import AdapterError

WIRE_FORMAT = "fedvitals-adapter/1"
METADATA = "__metadata__"
METADATA_KEYS = frozenset(
    {"alpha", "backbone", "backbone_digest", "dropout", "format", "frozen_a", "modules", "rank"}
    | {"target_modules", "trained"}
)
DTYPES: Mapping[str, np.dtype[Any]] = {
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "I8": np.dtype("i1"),
}
SCALE = ".scale"
"""Suffix of the tensor [layers, 1, 1] with the scales of an int8 tensor's matrices."""

LENGTH_BYTES = 8
MAX_HEADER_BYTES = 64 * 2**10
"""Enough for thousands of layers: each takes about ten bytes."""

_CODES = {dtype: code for code, dtype in DTYPES.items()}
_TENSOR_KEYS = frozenset({"dtype", "shape", "data_offsets"})
_COUNT = re.compile(r"0|[1-9][0-9]{0,14}")


@dataclass(frozen=True)
class TensorSpan:
    """Validated position of a tensor: `dtype`, `shape`, bytes `begin` to `end` of the data."""

    dtype: np.dtype[Any]
    shape: tuple[int, int, int]
    begin: int
    end: int


@dataclass(frozen=True)
class Header:
    """Validated header.

    Attributes:
        metadata: text for each of `METADATA_KEYS`.
        tensors: by name; all of one type except the scales of int8; together they fill the data.
        start: offset of the data in the message.
    """

    metadata: Mapping[str, str]
    tensors: Mapping[str, TensorSpan]
    start: int


def read_header(data: bytes, max_bytes: int) -> Header:
    """Parse and validate a header; its numbers and the meaning of its metadata stay unchecked.

    Args:
        data: the whole message.
        max_bytes: refuse longer messages.

    Raises:
        AdapterError: naming the first problem.
    """
    entries, start = _read_entries(data, max_bytes)
    metadata = _check_metadata(entries.pop(METADATA, None))
    return Header(metadata, _check_tensors(entries, len(data) - start), start)


def _read_entries(data: bytes, max_bytes: int) -> tuple[dict[str, Any], int]:
    """Check size, header length and JSON; return the header's entries and the data's offset."""
    if len(data) > max_bytes:
        raise refused(f"{len(data)} bytes, at most {max_bytes} are accepted")
    if len(data) < LENGTH_BYTES:
        raise refused(f"{len(data)} bytes, too few for a header")
    length = int.from_bytes(data[:LENGTH_BYTES], "little")
    if length > min(MAX_HEADER_BYTES, len(data) - LENGTH_BYTES):
        raise refused(
            f"header of {length} bytes in a message of {len(data)}, "
            f"headers have at most {MAX_HEADER_BYTES}"
        )
    start = LENGTH_BYTES + length
    try:
        header = json.loads(
            data[LENGTH_BYTES:start].decode("utf-8"),
            object_pairs_hook=_without_duplicates,
            parse_int=_small_integer,
            parse_float=_no_number,
            parse_constant=_no_number,
        )
    except (ValueError, RecursionError) as error:
        raise refused(f"header is not JSON: {type(error).__name__}") from None
    if not isinstance(header, dict):
        raise refused("header is not a JSON object")
    return header, start


def _without_duplicates(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    entries = dict(pairs)
    if len(entries) != len(pairs):
        raise refused("header names a key twice")
    return entries


def _small_integer(text: str) -> int:
    if not _COUNT.fullmatch(text):
        raise refused("header holds a negative or a huge integer")
    return int(text)


def _no_number(_text: str) -> float:
    raise refused("header holds a number that is no integer")


def _check_metadata(metadata: object) -> dict[str, str]:
    """Check that the metadata are text for exactly the expected keys, in this format."""
    if not isinstance(metadata, dict):
        raise refused("header has no metadata")
    if metadata.get("format") != WIRE_FORMAT:
        raise refused(
            f"format {shown(metadata.get('format'))}, this release reads {WIRE_FORMAT}; "
            "run the same release at the sites and the server"
        )
    if metadata.keys() != METADATA_KEYS:
        raise refused(f"metadata must have the keys {', '.join(sorted(METADATA_KEYS))}")
    for key, text in metadata.items():
        if not isinstance(text, str):
            raise refused(f"metadata {key} is not text")
    return metadata


def _check_tensors(entries: Mapping[str, Any], data_length: int) -> dict[str, TensorSpan]:
    """Check each entry, and that together they fill the data without gap or overlap."""
    tensors = {name: _check_tensor(name, entry) for name, entry in entries.items()}
    end = 0
    for name, tensor in sorted(tensors.items(), key=lambda item: item[1].begin):
        if tensor.begin != end:
            raise refused(f"tensor {shown(name)} begins at {tensor.begin}, expected {end}")
        end = tensor.end
    if end != data_length:
        raise refused(f"tensors end at {end}, the data at {data_length}")
    _check_types(tensors)
    return tensors


def _check_tensor(name: str, entry: object) -> TensorSpan:
    """Check a known type, three positive dimensions, and offsets of exactly that many bytes."""
    if not isinstance(entry, dict) or entry.keys() != _TENSOR_KEYS:
        raise refused(f"tensor {shown(name)} must have the keys {', '.join(sorted(_TENSOR_KEYS))}")
    if not isinstance(entry["dtype"], str) or entry["dtype"] not in DTYPES:
        raise refused(f"tensor {shown(name)} has type {shown(entry['dtype'])}, not F32, F16 or I8")
    dtype = DTYPES[entry["dtype"]]
    shape, offsets = entry["shape"], entry["data_offsets"]
    if not _are_integers(shape, 3) or min(shape) < 1:
        raise refused(f"tensor {shown(name)} has shape {shown(shape)}, not three counts")
    if not _are_integers(offsets, 2):
        raise refused(f"tensor {shown(name)} has offsets {shown(offsets)}, not two")
    begin, end = offsets
    if end - begin != math.prod(shape) * dtype.itemsize:
        raise refused(f"tensor {shown(name)} of shape {shape} does not fill {offsets}")
    return TensorSpan(dtype, (shape[0], shape[1], shape[2]), begin, end)


def _are_integers(values: object, count: int) -> bool:
    # `type` and not isinstance: JSON's true is an int to Python.
    return (
        isinstance(values, list)
        and len(values) == count
        and all(type(value) is int for value in values)
    )


def _check_types(tensors: Mapping[str, TensorSpan]) -> None:
    """Check one type for all matrices, and float32 scales for int8 tensors only."""
    scales = {name: tensor for name, tensor in tensors.items() if name.endswith(SCALE)}
    matrices = {name: tensor for name, tensor in tensors.items() if name not in scales}
    types = {tensor.dtype for tensor in matrices.values()}
    if len(types) > 1:
        raise refused("tensors of several types in one message")
    due = {name + SCALE for name in matrices} if types == {DTYPES["I8"]} else set()
    if scales.keys() != due:
        raise refused("int8 tensors and their scales do not fit each other")
    for name, tensor in scales.items():
        if tensor.dtype != DTYPES["F32"] or tensor.shape[1:] != (1, 1):
            raise refused(f"tensor {shown(name)} is not one float32 a matrix")


def write_message(metadata: Mapping[str, str], tensors: Mapping[str, npt.NDArray[Any]]) -> bytes:
    """Serialise a message; equal metadata and tensors give equal bytes.

    Args:
        metadata: text for each of `METADATA_KEYS`; written in the order of the keys.
        tensors: by name, in the order of their bytes; each of a type of `DTYPES`.

    Raises:
        AdapterError: as `write_header`.
    """
    header = write_header(metadata, tensors)
    return b"".join([header, *(tensor.tobytes() for tensor in tensors.values())])


def write_header(metadata: Mapping[str, str], tensors: Mapping[str, npt.NDArray[Any]]) -> bytes:
    """Serialise a message's header, with its length before it; only types and shapes are read.

    Args:
        metadata: text for each of `METADATA_KEYS`; written in the order of the keys.
        tensors: by name, in the order of their bytes; each of a type of `DTYPES`.

    Raises:
        AdapterError: where the header would be longer than a reader accepts, or holds half a
            surrogate pair, which has no UTF-8 encoding.
    """
    entries: dict[str, Any] = {METADATA: dict(sorted(metadata.items()))}
    begin = 0
    for name, tensor in tensors.items():
        end = begin + tensor.nbytes
        entries[name] = {
            "dtype": _CODES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [begin, end],
        }
        begin = end
    try:
        header = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise refused("metadata holds half a surrogate pair") from None
    header += b" " * (-len(header) % 8)  # safetensors keeps the numbers aligned
    if len(header) > MAX_HEADER_BYTES:
        raise AdapterError(
            f"names and settings of this adapter's layers need {len(header)} bytes, "
            f"at most {MAX_HEADER_BYTES} can be sent; adapt fewer layers"
        )
    return len(header).to_bytes(LENGTH_BYTES, "little") + header


def refused(reason: str) -> AdapterError:
    """Return the error for a message that is damaged, forged or of another release."""
    return AdapterError(f"adapter message refused: {reason}")
