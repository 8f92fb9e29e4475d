"""Rules for an adapter in a reply: one canonical message for its numbers, within the policy.

Only the numbers are taken from the app's bytes. Names, shapes and settings are those of the adapter
in the request, the type of the numbers is the run's, and the gate writes the message itself
(`common.adapter.serialization.canonical`). An adapter whose bytes differ from that message is
refused, not repaired: the release's own app writes the same bytes, so any difference could carry
other data.

No rule can see what the numbers mean; `simulation.attacks.adapter_capacity` computes how many bits
they can hold.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from client.egress.message_parser import ParsedArray
from client.policy.policy import Policy
from client.policy.refusal import RefusedError
from common.adapter.adapter import MAX_NAME_LENGTH, shown
from common.adapter.serialization.canonical import reply_bytes, rewritten
from common.adapter.serialization.header import Header, read_header
from common.adapter.serialization.message import (
    ARRAY_DTYPE,
    ARRAY_KEY,
    ARRAY_STYPE,
    inspect,
    matrix_shapes,
)
from common.errors import AdapterError


@dataclass(frozen=True)
class CheckedAdapter:
    """An adapter that may leave.

    Attributes:
        data: its serialised bytes.
        tensors: name, type and shape of each tensor on the wire.
        norm: Euclidean norm of its numbers.
        rank: rank of every pair of matrices.
    """

    data: bytes
    tensors: tuple[tuple[str, str, tuple[int, ...]], ...]
    norm: float
    rank: int


def check_planned_adapter(received: Header, dtype: str, policy: Policy) -> None:
    """Check before training whatever of the reply's adapter does not depend on its numbers.

    A reply has the layers, ranks and settings of the adapter that it answers, and the run's type.

    Args:
        received: header of the adapter in the request.
        dtype: type of the run's numbers on the wire, ``wire.dtype``.
        policy: what may leave.

    Raises:
        RefusedError: if no reply to this adapter may leave, whatever its numbers.
    """
    try:
        size = reply_bytes(received, dtype)
        shapes, rank = matrix_shapes(received)
    except AdapterError as error:
        raise RefusedError("adapter", str(error)) from None
    _check_size(size, policy)
    _check_shapes(shapes, rank, policy)


def check_adapter(
    record: Mapping[str, ParsedArray], received: Header | None, dtype: str | None, policy: Policy
) -> CheckedAdapter:
    """Return the adapter of a reply as it may leave.

    Args:
        record: the reply's arrays under ``adapter``.
        received: header of the adapter in the request; None without one.
        dtype: type of the run's numbers on the wire, ``wire.dtype``; None if unknown.
        policy: what may leave.

    Raises:
        RefusedError: if anything is missing, unexpected or not allowed.
    """
    data = _array_bytes(record, policy)
    if received is None:
        raise RefusedError("question", "the request has no adapter")
    if dtype is None:
        raise RefusedError("question", "the type of the run's numbers is not known")
    try:
        written = rewritten(data, received, dtype, max_bytes=policy.max_bytes)
        summary = inspect(written, max_bytes=policy.max_bytes)
    except AdapterError as error:
        raise RefusedError("adapter", str(error)) from None
    if written != data:
        raise RefusedError("adapter", "its bytes differ from the canonical form of its numbers")
    shapes = {name: (matrix.shape[0], matrix.shape[1]) for name, matrix in summary.matrices.items()}
    _check_shapes(shapes, summary.rank, policy)
    if not math.isfinite(summary.norm) or summary.norm > policy.max_norm:
        raise RefusedError("norm", f"norm {summary.norm:g}, the policy allows {policy.max_norm:g}")
    header = read_header(written, policy.max_bytes)
    tensors = tuple(
        (name, tensor.dtype.name, tensor.shape) for name, tensor in header.tensors.items()
    )
    return CheckedAdapter(written, tensors, summary.norm, summary.rank)


def _array_bytes(record: Mapping[str, ParsedArray], policy: Policy) -> bytes:
    """Return the bytes of the record's one array, which must have our key, type and shape."""
    if set(record) != {ARRAY_KEY}:
        raise RefusedError(
            "record", f"arrays in the adapter: {shown(sorted(record))}, expected one"
        )
    array = record[ARRAY_KEY]
    _check_size(len(array.data), policy)
    declared = (array.stype, array.dtype, array.shape)
    if declared != (ARRAY_STYPE, ARRAY_DTYPE, (len(array.data),)):
        raise RefusedError("adapter", f"the array declares {shown(declared)}; no adapter does")
    return array.data


def _check_size(size: int, policy: Policy) -> None:
    if size > policy.max_bytes:
        raise RefusedError("size", f"{size} bytes, the policy allows {policy.max_bytes}")


def _check_shapes(shapes: Mapping[str, tuple[int, int]], declared: int, policy: Policy) -> None:
    for name, shape in shapes.items():
        if len(name) > MAX_NAME_LENGTH or not policy.tensor_name.fullmatch(name):
            raise RefusedError("tensor", f"{shown(name)} does not match the policy's tensor names")
        # The declared rank and the shapes both came with the request; they must agree.
        if (rank := shape[0 if ".lora_A." in name else 1]) != declared:
            raise RefusedError("rank", f"{shown(name)} is of rank {rank}, not {declared}")
    check_allowed_rank(declared, policy)


def check_allowed_rank(rank: int, policy: Policy) -> None:
    """Refuse an adapter of a rank above the policy's.

    Raises:
        RefusedError: if it is above.
    """
    if rank > policy.max_rank:
        raise RefusedError("rank", f"rank {rank}, the policy allows {policy.max_rank}")
