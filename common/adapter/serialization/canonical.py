"""Canonical form of an adapter message: a message that was read, encoded again.

In a reply only the numbers are the sender's. Their names, shapes and settings are those of the
adapter that was received, their type is the run's, and everything else follows. A reply that
differs from its canonical form carries information in the difference: in the order of its tensors,
a space in its header, the sign of a zero.

A message of `common.adapter.serialization.message.encode` with finite numbers is canonical.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from common.adapter.adapter import shown
from common.adapter.serialization.encoding import CODES, from_wire, read_layout, to_wire
from common.adapter.serialization.header import (
    DTYPES,
    SCALE,
    Header,
    read_header,
    refused,
    write_header,
    write_message,
)


def rewritten(data: bytes, received: Header, dtype: str, *, max_bytes: int) -> bytes:
    """Return the canonical form of a reply: its numbers as `message.encode` would write them.

    Args:
        data: the message, from an untrusted sender. A shared A that it leaves out is not needed.
        received: header of the message that it answers; its type of number may differ, since int8
            is used for replies only.
        dtype: the run's numbers on the wire, a key of `encoding.CODES`.
        max_bytes: refuse longer messages.

    Raises:
        AdapterError: where the message is damaged, its layers, settings or shapes are not those
            received, its numbers are of another type than the run's, or one is not finite.
    """
    header = read_header(data, max_bytes)
    if header.metadata != received.metadata:
        raise refused("its layers and settings are not those of the one received")
    if _shapes(header) != _shapes(received):
        raise refused("its shapes are not those of the one received")
    _check_type(header, dtype)
    factors, groups = read_layout(header)
    tensors: dict[str, npt.NDArray[Any]] = {}
    for factor in factors:
        for group in range(len(groups)):
            name = f"{factor}.{group}"
            stack = from_wire(data, header, name)
            if not np.isfinite(stack).all():
                raise refused(f"not finite: {name}")
            tensors |= to_wire(name, stack, dtype, name)
    return write_message(received.metadata, tensors)


def reply_bytes(received: Header, dtype: str) -> int:
    """Return the size of every reply to a message, in bytes, before there is one.

    The size depends on the layers, shapes and type alone, not on the numbers.

    Args:
        received: header of the message.
        dtype: the run's numbers on the wire, a key of `encoding.CODES`.

    Raises:
        AdapterError: where the metadata contradict the tensors, or the header would be too long.
    """
    factors, groups = read_layout(received)
    tensors: dict[str, npt.NDArray[Any]] = {}
    for name in (f"{factor}.{group}" for factor in factors for group in range(len(groups))):
        shape = received.tensors[name].shape
        # A view of one number: no memory is taken, whatever shape the sender states.
        tensors[name] = np.broadcast_to(np.zeros((), DTYPES[CODES[dtype]]), shape)
        if dtype == "int8":
            tensors[name + SCALE] = np.zeros((shape[0], 1, 1), DTYPES["F32"])
    header = write_header(received.metadata, tensors)
    return len(header) + sum(tensor.nbytes for tensor in tensors.values())


def _shapes(header: Header) -> dict[str, tuple[int, int, int]]:
    # The scales of int8 follow from the matrices.
    return {name: t.shape for name, t in header.tensors.items() if not name.endswith(SCALE)}


def _check_type(header: Header, dtype: str) -> None:
    types = {t.dtype.name for name, t in header.tensors.items() if not name.endswith(SCALE)}
    if types != {dtype}:
        raise refused(f"its numbers are {shown(sorted(types))}, the run's are {dtype}")
