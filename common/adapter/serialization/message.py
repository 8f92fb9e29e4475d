"""An adapter as bytes, and those bytes as the single Array of a Flower message.

`encode` and `decode` use `encoding` for the matrices and `header` for the file around them. The
bytes are a safetensors file, which holds numbers and names and cannot hold code.

One Array, because Flower stores and sends each Array as objects of their own: 4 MB as 400 arrays
take ten times as long as 4 MB in one.

Where only B is trained (FFA-LoRA), only B is sent: A is the same on every side, and the message
names it by its digest.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from common.adapter.adapter import Adapter, Matrix, shown, tensor_name
from common.adapter.serialization.encoding import (
    CODES,
    WireDtype,
    decode_layers,
    encode_layers,
    from_wire,
    read_layout,
)
from common.adapter.serialization.header import (
    SCALE,
    WIRE_FORMAT,
    Header,
    read_header,
    refused,
    write_message,
)
from common.errors import AdapterError

if TYPE_CHECKING:
    from flwr.app import ArrayRecord

__all__ = ["WireDtype", "WireSummary", "decode", "encode", "from_record", "inspect", "to_record"]

ARRAY_KEY = "adapter"
ARRAY_DTYPE = "uint8"
ARRAY_STYPE = "safetensors"

DEFAULT_MAX_BYTES = 64 * 2**20
"""Default limit of a message's size; Chronos-2 at rank 16 needs 9 MB."""

_RANK = re.compile(r"[1-9][0-9]{0,8}")


def encode(adapter: Adapter, dtype: WireDtype = "float32", trained: str = "ab") -> bytes:
    """Serialise an adapter to safetensors bytes; equal adapters give equal bytes.

    Decoding and encoding again gives the same bytes (`common.adapter.serialization.canonical`),
    since each number has one representation (`common.adapter.serialization.encoding`).

    Args:
        adapter: the adapter to send. NaN and infinities pass, so that the receiver can name them.
        dtype: type of the numbers; float16 halves them and keeps about three digits, int8
            quarters them and rounds to 1/127 of each matrix's largest.
        trained: ``ab``, or ``b``: A is left out and named by its digest.

    Raises:
        AdapterError: where the type is unknown, a finite number does not fit into float16, or the
            layers' names do not fit into the header.
    """
    if dtype not in CODES:
        raise AdapterError(f"unknown wire type {shown(dtype)}; use one of {', '.join(CODES)}")
    modules, tensors = encode_layers(adapter, dtype, trained)
    metadata = {
        "alpha": repr(adapter.alpha),
        "backbone": adapter.backbone,
        "backbone_digest": adapter.backbone_digest,
        "dropout": repr(adapter.dropout),
        "format": WIRE_FORMAT,
        "frozen_a": adapter.a_digest() if trained == "b" else "",
        "modules": modules,
        "rank": str(adapter.rank),
        "target_modules": adapter.target_modules,
        "trained": trained,
    }
    return write_message(metadata, tensors)


def decode(
    data: bytes,
    *,
    shared: Adapter | None = None,
    max_bytes: int = DEFAULT_MAX_BYTES,
    require_finite: bool = True,
) -> Adapter:
    """Parse and validate an adapter message from an untrusted sender.

    Args:
        data: a message made by `encode`.
        shared: an adapter with the A that the message may leave out.
        max_bytes: refuse longer messages.
        require_finite: refuse NaN and infinities; a caller who passes False checks
            `Adapter.first_nonfinite` itself.

    Raises:
        AdapterError: for every message that `encode` would not have made in substance, and where
            its A is not the shared one.
    """
    header = read_header(data, max_bytes)
    metadata = header.metadata
    matrices = decode_layers(data, header)
    if metadata["trained"] == "b":
        matrices |= _shared_a(metadata["frozen_a"], shared)
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


def _shared_a(named: str, shared: Adapter | None) -> dict[str, Matrix]:
    if shared is None:
        raise refused("it leaves out A, of which this side has none; set lora.train = b on both")
    if shared.a_digest() != named:
        raise refused(
            f"it was made with the shared A {named:.12}, this side has {shared.a_digest():.12}; "
            "use the same release, seed and LoRA settings"
        )
    return {name: tensor for name, tensor in shared.tensors.items() if ".lora_A." in name}


def _rank(metadata: Mapping[str, str]) -> int:
    if not _RANK.fullmatch(metadata["rank"]):
        raise refused(f"metadata rank is {shown(metadata['rank'])}, not a positive integer")
    return int(metadata["rank"])


def _number(metadata: Mapping[str, str], key: str) -> float:
    """A float written as `repr` writes it, so that each number has one text."""
    try:
        value = float(metadata[key])
    except ValueError:
        raise refused(f"metadata {key} is {shown(metadata[key])}, not a number") from None
    if repr(value) != metadata[key]:
        raise refused(f"metadata {key} is {shown(metadata[key])}, expected {value!r}")
    return value


@dataclass(frozen=True)
class WireSummary:
    """Contents of a message, read without the shared A that it may leave out.

    Attributes:
        matrices: the matrices that are sent, by PEFT's name, as float32, read-only.
        rank: rank of every pair.
        alpha: numerator of the scale alpha / rank.
        trained: ``ab``, or ``b`` where A is shared and not sent.
        dtype: type of the numbers on the wire.
        backbone_digest: digest of the frozen backbone.
    """

    matrices: Mapping[str, Matrix]
    rank: int
    alpha: float
    trained: str
    dtype: str
    backbone_digest: str

    @property
    def norm(self) -> float:
        """The Euclidean norm of all numbers together, summed in float64."""
        squares = (np.square(m, dtype=np.float64).sum() for m in self.matrices.values())
        return math.sqrt(sum(float(square) for square in squares))


def inspect(data: bytes, *, max_bytes: int = DEFAULT_MAX_BYTES) -> WireSummary:
    """Summarise a message; checks and errors as `decode`, but for a shared A and NaN."""
    header = read_header(data, max_bytes)
    matrices = decode_layers(data, header)
    tensor = next(tensor for name, tensor in header.tensors.items() if not name.endswith(SCALE))
    return WireSummary(
        matrices=matrices,
        rank=_rank(header.metadata),
        alpha=_number(header.metadata, "alpha"),
        trained=header.metadata["trained"],
        dtype=tensor.dtype.name,
        backbone_digest=header.metadata["backbone_digest"],
    )


def check_message(data: bytes, *, max_bytes: int = DEFAULT_MAX_BYTES) -> Header:
    """Check a message from an untrusted sender, and return its header; a shared A is not needed.

    Raises:
        AdapterError: where its layers, rank, alpha or dropout are damaged, or a number is not
            finite.
    """
    header = read_header(data, max_bytes)
    factors, groups = read_layout(header)
    _rank(header.metadata)
    for key in ("alpha", "dropout"):
        _number(header.metadata, key)
    for name in (f"{factor}.{group}" for factor in factors for group in range(len(groups))):
        if not np.isfinite(from_wire(data, header, name)).all():
            raise refused(f"not finite: {name}")
    return header


def matrix_shapes(header: Header) -> tuple[dict[str, tuple[int, int]], int]:
    """Return the shape of each matrix by PEFT's name, and the rank, from a header alone.

    Raises:
        AdapterError: where the metadata contradict themselves or do not fit the tensors.
    """
    factors, groups = read_layout(header)
    shapes = {
        tensor_name(module, factor): header.tensors[f"{factor}.{group}"].shape[1:]
        for group, modules in enumerate(groups)
        for factor in factors
        for module in modules
    }
    return shapes, _rank(header.metadata)


def to_record(adapter: Adapter, dtype: WireDtype = "float32", trained: str = "ab") -> ArrayRecord:
    """Wrap an adapter for a Flower message: one Array under the key ``adapter``.

    Raises:
        AdapterError: as `encode`.
    """
    return record_of(encode(adapter, dtype, trained))


def record_of(data: bytes) -> ArrayRecord:
    """Wrap the bytes of an adapter for a Flower message."""
    from flwr.app import Array, ArrayRecord

    array = Array(dtype=ARRAY_DTYPE, shape=(len(data),), stype=ARRAY_STYPE, data=data)
    return ArrayRecord({ARRAY_KEY: array})


def from_record(
    record: ArrayRecord,
    *,
    shared: Adapter | None = None,
    max_bytes: int = DEFAULT_MAX_BYTES,
    require_finite: bool = True,
) -> Adapter:
    """Unwrap the adapter of a Flower message.

    Args:
        record: a record made by `to_record`.
        shared: as in `decode`.
        max_bytes: as in `decode`.
        require_finite: as in `decode`.

    Raises:
        AdapterError: for every other record, and as `decode`.
    """
    data = bytes_of(record)
    return decode(data, shared=shared, max_bytes=max_bytes, require_finite=require_finite)


def bytes_of(record: ArrayRecord) -> bytes:
    """Return the bytes of a record made by `to_record`.

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
    return bytes(array.data)
