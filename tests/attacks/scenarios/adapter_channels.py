"""Covert channels in an adapter's message beside its numbers; each can write and read bits.

In every channel the payload 0 is the message that the release's own app writes.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from common.adapter.adapter import Adapter, tensor_name
from common.adapter.serialization.header import LENGTH_BYTES, METADATA, TensorSpan, read_header
from common.adapter.serialization.message import WireDtype, encode

MOST = 10**7
LAYER = "encoder.block.{}.layer.0.SelfAttention.{}"
NAN = 0x7FC00000
"""float32's quiet NaN; the 22 bits below are free."""


@dataclass(frozen=True)
class Channel:
    """A covert channel.

    Attributes:
        dtype: the numbers of the run on the wire.
        bits: how many the channel holds in a message of `adapter`.
        hide: writes a payload below 2^bits into the honest message.
        find: reads it, as a coordinator that knows of it would.
    """

    dtype: WireDtype
    bits: int
    hide: Callable[[int], bytes]
    find: Callable[[bytes], int]


def adapter() -> Adapter:
    """Three sizes of layers, nine in all; B is zero but in the first layer, as it begins."""
    random = np.random.default_rng(11)
    tensors: dict[str, npt.NDArray[np.float32]] = {}
    for block in range(3):
        for projection, outputs in (("q", 16), ("k", 16), ("o", 24)):
            inputs = 16 if projection != "k" else 24
            name = LAYER.format(block, projection)
            a = random.uniform(-0.25, 0.25, (8, inputs)).astype(np.float32)
            a[0, 0] = -0.25  # the largest magnitude is negative: its level in int8 is -127
            b = np.zeros((outputs, 8), np.float32)
            tensors |= {tensor_name(name, "A"): a, tensor_name(name, "B"): b}
    return Adapter(
        tensors, rank=8, alpha=16.0, target_modules=r".*\.(q|k|o)", backbone="chronos-bolt-nano",
        backbone_digest="0123456789abcdef" * 4, dropout=0.05,
    )  # fmt: skip


def _views(message: bytearray) -> dict[str, npt.NDArray[Any]]:
    """A message's tensors, to be changed in place."""
    header = read_header(bytes(message), MOST)
    return {
        name: np.frombuffer(
            message, span.dtype, math.prod(span.shape), header.start + span.begin
        ).reshape(span.shape)
        for name, span in header.tensors.items()
    }


def _zeros(views: Mapping[str, npt.NDArray[Any]], name: str) -> npt.NDArray[Any]:
    return np.concatenate([views[f"{name}.{group}"].ravel() for group in range(3)])


def _put(views: Mapping[str, npt.NDArray[Any]], name: str, values: npt.NDArray[Any]) -> None:
    """Write the numbers of one factor, over its three groups of layers."""
    at = 0
    for group in range(3):
        view = views[f"{name}.{group}"]
        view[...] = values[at : at + view.size].reshape(view.shape)
        at += view.size


def _words(payload: int, width: int, count: int) -> npt.NDArray[np.uint32]:
    return np.array([(payload >> width * i) % 2**width for i in range(count)], np.uint32)


def _number(words: npt.NDArray[Any], width: int) -> int:
    return sum(int(word) << width * i for i, word in enumerate(words))


# --- The order of the tensors -------------------------------------------------------------------


def _by_order(dtype: WireDtype) -> Channel:
    names = list(read_header(encode(adapter(), dtype), MOST).tensors)

    def hide(payload: int) -> bytes:
        left, order = list(names), []
        for count in range(len(names), 0, -1):
            payload, index = divmod(payload, count)
            order.append(left.pop(index))
        return _reordered(encode(adapter(), dtype), order)

    def find(message: bytes) -> int:
        spans = read_header(message, MOST).tensors
        left, payload, place = list(names), 0, 1
        for name in sorted(spans, key=lambda one: spans[one].begin):
            payload += left.index(name) * place
            place *= len(left)
            left.remove(name)
        return payload

    return Channel(dtype, int(math.log2(math.factorial(len(names)))), hide, find)


def _reordered(message: bytes, order: list[str]) -> bytes:
    header = read_header(message, MOST)
    codes = {"float32": "F32", "float16": "F16", "int8": "I8"}
    entries: dict[str, Any] = {METADATA: dict(header.metadata)}
    blocks, begin = [], 0
    for name in order:
        span: TensorSpan = header.tensors[name]
        blocks.append(message[header.start + span.begin : header.start + span.end])
        entries[name] = {
            "dtype": codes[span.dtype.name],
            "shape": list(span.shape),
            "data_offsets": [begin, begin + len(blocks[-1])],
        }
        begin += len(blocks[-1])
    return _with_header(json.dumps(entries, separators=(",", ":"), ensure_ascii=False), blocks)


def _with_header(text: str, blocks: list[bytes]) -> bytes:
    raw = text.encode()
    raw += b" " * (-len(raw) % 8)
    return b"".join([len(raw).to_bytes(LENGTH_BYTES, "little"), raw, *blocks])


# --- The type of the numbers, the spelling of the header ----------------------------------------


def _by_type() -> Channel:
    types: tuple[WireDtype, ...] = ("float32", "float16", "int8")

    def find(message: bytes) -> int:
        return types.index(read_header(message, MOST).tensors["B.0"].dtype.name)

    return Channel("float32", 1, lambda payload: encode(adapter(), types[payload]), find)


def _by_spaces() -> Channel:
    honest = encode(adapter())
    start = read_header(honest, MOST).start
    parts = honest[LENGTH_BYTES:start].decode().rstrip().split(',"')

    def hide(payload: int) -> bytes:
        text = parts[0]
        for i, part in enumerate(parts[1:]):
            text += (', "' if payload >> i & 1 else ',"') + part
        return _with_header(text, [honest[start:]])

    def find(message: bytes) -> int:
        text = message[LENGTH_BYTES : read_header(message, MOST).start].decode()
        gaps = (text[end - 1] == " " for end in _quotes_after_commas(text))
        return sum(gap << i for i, gap in enumerate(gaps))

    return Channel("float32", len(parts) - 1, hide, find)


def _quotes_after_commas(text: str) -> Iterator[int]:
    for index, character in enumerate(text):
        if character == "," and text[index + 1 :].lstrip(" ").startswith('"'):
            yield text.index('"', index)


# --- The spelling of a number -------------------------------------------------------------------


def _by_bits_of_zeros(
    dtype: WireDtype, width: int, write: Callable[[npt.NDArray[np.uint32]], npt.NDArray[Any]]
) -> Channel:
    """Every zero of B another pattern of bits that counts as zero, or nearly."""
    count = sum(b.size for name, b in adapter().tensors.items() if ".lora_B." in name)
    kind = np.dtype("<u2" if dtype == "float16" else "<u4")

    def hide(payload: int) -> bytes:
        message = bytearray(encode(adapter(), dtype))
        patterns = write(_words(payload, width, count)).astype(kind)
        _put(_views(message), "B", patterns.view(np.dtype(dtype)))
        return bytes(message)

    def find(message: bytes) -> int:
        patterns = _zeros(_views(bytearray(message)), "B").view(kind).astype(np.uint32)
        sign = 15 if dtype == "float16" else 31
        words = patterns >> sign if width == 1 else patterns & (2**width - 1)
        return _number(words, width)

    return Channel(dtype, width * count, hide, find)


def _by_scales_over_zeros() -> Channel:
    """B in int8 is all zero: whatever is finite may stand in its scales. Without a sign here."""

    def hide(payload: int) -> bytes:
        message = bytearray(encode(adapter(), "int8"))
        for group, words in enumerate(np.split(_words(payload, 30, 9), 3)):
            _views(message)[f"B.{group}.scale"][:, 0, 0] = words.view(np.float32)
        return bytes(message)

    def find(message: bytes) -> int:
        views = _views(bytearray(message))
        scales = [views[f"B.{group}.scale"].ravel().view(np.uint32) for group in range(3)]
        return _number(np.concatenate(scales), 30)

    return Channel("int8", 30 * 9, hide, find)


def _by_signs_of_scales() -> Channel:
    """A matrix of A is the same with its scale and all its levels negative."""

    def hide(payload: int) -> bytes:
        message = bytearray(encode(adapter(), "int8"))
        views = _views(message)
        for index in range(9):
            if payload >> index & 1:
                group, layer = divmod(index, 3)
                views[f"A.{group}"][layer] *= -1
                views[f"A.{group}.scale"][layer] *= -1
        return bytes(message)

    def find(message: bytes) -> int:
        views = _views(bytearray(message))
        scales = np.concatenate([views[f"A.{group}.scale"].ravel() for group in range(3)])
        return _number(scales < 0, 1)

    return Channel("int8", 9, hide, find)


def _by_the_level_below() -> Channel:
    """-128 where an honest message has -127 at most."""

    def hide(payload: int) -> bytes:
        message = bytearray(encode(adapter(), "int8"))
        views = _views(message)
        for index in range(9):
            group, layer = divmod(index, 3)
            views[f"A.{group}"][layer, 0, 0] -= payload >> index & 1
        return bytes(message)

    def find(message: bytes) -> int:
        views = _views(bytearray(message))
        firsts = np.concatenate([views[f"A.{group}"][:, 0, 0] for group in range(3)])
        return _number(firsts == -128, 1)

    return Channel("int8", 9, hide, find)


def _nan(words: npt.NDArray[np.uint32]) -> npt.NDArray[Any]:
    return np.where(words > 0, words | NAN, words)


CHANNELS: Mapping[str, Channel] = {
    "order of tensors": _by_order("float32"),
    "order of tensors and scales": _by_order("int8"),
    "type of number": _by_type(),
    "spaces in the header": _by_spaces(),
    "scales over zero levels": _by_scales_over_zeros(),
    "signs of scales": _by_signs_of_scales(),
    "the level -128": _by_the_level_below(),
    "negative zeros": _by_bits_of_zeros("float32", 1, lambda words: words << 31),
    "negative zeros in float16": _by_bits_of_zeros("float16", 1, lambda words: words << 15),
    "subnormals": _by_bits_of_zeros("float32", 23, lambda words: words),
    "payloads of NaN": _by_bits_of_zeros("float32", 22, _nan),
}
REFUSED_BEFORE = frozenset({"spaces in the header", "payloads of NaN"})
"""Channels that the gate already refused before; all bits of every other one got through."""
