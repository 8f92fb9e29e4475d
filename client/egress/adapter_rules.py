"""The rules by which an adapter leaves: one message for its numbers, within the policy.

Of the app's bytes nothing enters what is sent but the numbers: names, shapes and settings are those
of the adapter that came, the type of the numbers is the run's, and the gate writes the message
itself. Bytes that differ from what it writes are refused rather than mended: the release's own app
writes the same (`common.adapter.serialization.canonical`), so that one which does not has something
else to say.

What no rule can see is what the numbers mean. `simulation.attacks.adapter_capacity` tells how much
they can hold.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from client.egress.message_parser import ArrayItem
from client.policy.policy import Policy
from client.policy.refusal import RefusedError
from common.adapter.adapter import MAX_NAME_LENGTH, shown
from common.adapter.serialization.canonical import rewritten
from common.adapter.serialization.header import Header, read_header
from common.adapter.serialization.message import (
    ARRAY_DTYPE,
    ARRAY_KEY,
    ARRAY_STYPE,
    WireSummary,
    inspect,
)
from common.errors import AdapterError


@dataclass(frozen=True)
class JudgedAdapter:
    """An adapter that may leave.

    Attributes:
        data: its message.
        tensors: name, type and shape of each tensor on the wire.
        norm: Euclidean norm of its numbers.
        rank: of every pair.
    """

    data: bytes
    tensors: tuple[tuple[str, str, tuple[int, ...]], ...]
    norm: float
    rank: int


def judge_adapter(
    record: Mapping[str, ArrayItem], received: Header | None, dtype: str | None, policy: Policy
) -> JudgedAdapter:
    """Return what may be sent of an answer's adapter.

    Args:
        record: the answer's arrays under ``adapter``.
        received: the header of the adapter that the server sent; None where it sent none.
        dtype: the run's numbers on the wire, ``wire.dtype``; None where that is not known.
        policy: what may leave.

    Raises:
        RefusedError: where anything is more, less or other than it may be.
    """
    data = _array(record, policy)
    if received is None:
        raise RefusedError("question", "the server's message brings no adapter")
    if dtype is None:
        raise RefusedError("question", "the type of the run's numbers is not known")
    try:
        written = rewritten(data, received, dtype, max_bytes=policy.max_bytes)
        summary = inspect(written, max_bytes=policy.max_bytes)
    except AdapterError as error:
        raise RefusedError("adapter", str(error)) from None
    if written != data:
        raise RefusedError("adapter", "its bytes are not those that its numbers are written in")
    _check_within(summary, policy)
    sent = read_header(written, policy.max_bytes).tensors
    tensors = tuple((name, tensor.dtype.name, tensor.shape) for name, tensor in sent.items())
    return JudgedAdapter(written, tensors, summary.norm, summary.rank)


def _array(record: Mapping[str, ArrayItem], policy: Policy) -> bytes:
    """The bytes of the one array that there may be, which calls itself as ours does."""
    if set(record) != {ARRAY_KEY}:
        raise RefusedError(
            "record", f"arrays in the adapter: {shown(sorted(record))}, expected one"
        )
    array = record[ARRAY_KEY]
    if len(array.data) > policy.max_bytes:
        raise RefusedError("size", f"{len(array.data)} bytes, the policy allows {policy.max_bytes}")
    said = (array.stype, array.dtype, array.shape)
    if said != (ARRAY_STYPE, ARRAY_DTYPE, (len(array.data),)):
        raise RefusedError("adapter", f"the array calls itself {shown(said)}, which no adapter is")
    return array.data


def _check_within(summary: WireSummary, policy: Policy) -> None:
    for name, matrix in summary.matrices.items():
        if len(name) > MAX_NAME_LENGTH or not policy.tensor_name.fullmatch(name):
            raise RefusedError("tensor", f"{shown(name)} does not match the policy's tensor names")
        # The rank that is stated came with the question, and so did the shapes: they must agree.
        if (rank := matrix.shape[0 if ".lora_A." in name else 1]) != summary.rank:
            raise RefusedError("rank", f"{shown(name)} is of rank {rank}, not {summary.rank}")
    if summary.rank > policy.max_rank:
        raise RefusedError("rank", f"rank {summary.rank}, the policy allows {policy.max_rank}")
    if not math.isfinite(summary.norm) or summary.norm > policy.max_norm:
        raise RefusedError("norm", f"norm {summary.norm:g}, the policy allows {policy.max_norm:g}")
