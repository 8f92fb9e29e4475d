from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.adapter.adapter import Adapter, tensor_name
from common.adapter.serialization.canonical import reply_bytes, rewritten
from common.adapter.serialization.header import LENGTH_BYTES, Header, read_header
from common.adapter.serialization.message import WireDtype, decode, encode
from common.errors import AdapterError

SETTINGS: dict[str, Any] = {
    "alpha": 16.0,
    "target_modules": ".*",
    "backbone": "chronos-bolt-nano",
    "backbone_digest": "0123456789abcdef" * 4,
}
DTYPES: tuple[WireDtype, ...] = ("float32", "float16", "int8")
MOST = 10**6
LAYERS = {"b.o": (2, 2), "b.q": (2, 2), "b.wi": (2, 3)}
NUMBERS = {
    # Down to subnormals and up to the largest number that there is.
    "float32": st.floats(width=32, allow_nan=False, allow_infinity=False),
    "float16": st.floats(-65504.0, 65504.0, width=16),
    # Matrices whose scale would be subnormal or that end close to the largest number.
    "int8": st.one_of(
        st.floats(width=32, allow_nan=False, allow_infinity=False),
        st.floats(-1.0625 * 2.0**-119, 1.0625 * 2.0**-119, width=32),
    ),
}


def made(values: dict[str, np.ndarray[Any, Any]], rank: int) -> Adapter:
    return Adapter(values, rank=rank, **SETTINGS)


def small(scale: float = 1.0) -> Adapter:
    random_ = np.random.default_rng(3)
    tensors = {}
    for module, (inputs, outputs) in LAYERS.items():
        for factor, shape in {"A": (2, inputs), "B": (outputs, 2)}.items():
            numbers = scale * random_.normal(size=shape)
            tensors[tensor_name(module, factor)] = numbers.astype(np.float32)
    return made(tensors, 2)


def header(adapter: Adapter, dtype: WireDtype = "float32", trained: str = "ab") -> Header:
    return read_header(encode(adapter, dtype, trained), MOST)


@st.composite
def adapters(draw: st.DrawFn, dtype: str) -> Adapter:
    """Any layout; each matrix of numbers of one kind, or all zero."""
    rank = draw(st.integers(1, 2))
    layers = draw(
        st.dictionaries(
            st.sampled_from(["a.q", "a.v", "b.q", "b.wi", "c"]),
            st.tuples(st.integers(1, 3), st.integers(1, 3)),
            min_size=1,
        )
    )
    tensors = {}
    for name, (inputs, outputs) in layers.items():
        for factor, shape in {"A": (rank, inputs), "B": (outputs, rank)}.items():
            count = shape[0] * shape[1]
            kinds = st.one_of(st.just([0.0] * count), st.just([-0.0] * count))
            drawn = draw(kinds | st.lists(NUMBERS[dtype], min_size=count, max_size=count))
            tensors[tensor_name(name, factor)] = np.array(drawn, np.float32).reshape(shape)
    return made(tensors, rank)


@pytest.mark.parametrize("trained", ["ab", "b"])
@pytest.mark.parametrize("dtype", DTYPES)
@given(data=st.data())
@settings(max_examples=100)
def test_the_encoded_form_is_canonical(dtype: WireDtype, trained: str, data: st.DataObject) -> None:
    adapter = data.draw(adapters(dtype))
    message = encode(adapter, dtype, trained)
    received = header(adapter, "float32", trained)
    assert rewritten(message, received, dtype, max_bytes=MOST) == message
    assert encode(decode(message, shared=adapter), dtype, trained) == message


def test_every_int8_scale_is_reproduced() -> None:
    """All largest magnitudes of one power of two; the other powers are the same, but the ends."""
    largest = np.arange(2**23, 2**24, dtype=np.uint32).astype(np.float32)
    scale = largest / np.float32(127)
    np.testing.assert_array_equal(np.float32(127) * scale / np.float32(127), scale)


@pytest.mark.parametrize("power", [*range(-149, -116), *range(124, 128)])
def test_a_scale_at_the_ends_of_float32_is_reproduced(power: int) -> None:
    for factor in (1.0, 1.0 + 2.0**-23, 1.98, 2.0 - 2.0**-22, 2.0 - 2.0**-23):
        adapter = small(factor * 2.0**power / 10)
        tensors = {name: tensor.copy() for name, tensor in adapter.tensors.items()}
        tensors[tensor_name("b.q", "B")][0, 0] = factor * 2.0**power
        message = encode(made(tensors, 2), "int8")
        assert rewritten(message, header(adapter), "int8", max_bytes=MOST) == message
        (scales,) = (s for n, s in read_header(message, MOST).tensors.items() if n == "B.0.scale")
        start = read_header(message, MOST).start + scales.begin
        scale = float(np.frombuffer(message, "<f4", 2, start)[1])
        assert scale == 0.0 or 2.0**-126 <= scale < 2.0**122
        assert decode(message).is_finite()


def test_zero_has_no_sign_and_float32_no_subnormals() -> None:
    name = tensor_name("b.q", "B")
    tensors = {key: tensor.copy() for key, tensor in small().tensors.items()}
    tensors[name][:] = [[-0.0, 2.0**-127], [-(2.0**-149), 2.0**-126]]
    for dtype in DTYPES[:2]:
        arrived = decode(encode(made(tensors, 2), dtype)).tensors[name]
        assert not np.signbit(arrived).any()
        expected = [[0.0, 0.0], [0.0, 2.0**-126 if dtype == "float32" else 0.0]]
        np.testing.assert_array_equal(arrived, expected)
    tensors[name][:] = [[2.0**-24, -(2.0**-24)], [-(2.0**-26), 1.0]]
    arrived = decode(encode(made(tensors, 2), "float16")).tensors[name]
    np.testing.assert_array_equal(arrived, [[2.0**-24, -(2.0**-24)], [0.0, 1.0]])
    assert not np.signbit(arrived[1, 0])


@pytest.mark.parametrize("down", ["float32", "float16"])
def test_the_received_message_may_have_another_type(down: WireDtype) -> None:
    for dtype in DTYPES:
        message = encode(small(), dtype)
        received = header(small(2.0), down)
        assert rewritten(message, received, dtype, max_bytes=MOST) == message


def test_a_reply_unlike_the_received_message_is_refused() -> None:
    message, received = encode(small()), header(small())
    other = Adapter(small().tensors, rank=2, **{**SETTINGS, "alpha": 8.0})
    with pytest.raises(AdapterError, match="layers and settings are not those"):
        rewritten(message, header(other), "float32", max_bytes=MOST)
    with pytest.raises(AdapterError, match="layers and settings are not those"):
        rewritten(message, header(small(), trained="b"), "float32", max_bytes=MOST)
    name = tensor_name("b.wi", "B")
    wider = made({**small().tensors, name: np.ones((4, 2), np.float32)}, 2)
    with pytest.raises(AdapterError, match="shapes are not those"):
        rewritten(encode(wider), received, "float32", max_bytes=MOST)
    for dtype in ("float16", "int8", "float64"):
        with pytest.raises(AdapterError, match=rf"\['float32'\], the run's are {dtype}"):
            rewritten(message, received, dtype, max_bytes=MOST)
    with pytest.raises(AdapterError, match="at most 100 are accepted"):
        rewritten(message, received, "float32", max_bytes=100)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_not_finite_are_refused(dtype: WireDtype, value: float) -> None:
    tensors = {key: tensor.copy() for key, tensor in small().tensors.items()}
    tensors[tensor_name("b.q", "B")][0, 0] = value
    message = encode(made(tensors, 2), dtype)
    with pytest.raises(AdapterError, match=r"not finite: B\.0"):
        rewritten(message, header(small()), dtype, max_bytes=MOST)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_changed_byte_is_another_adapter_or_is_not_canonical(
    dtype: WireDtype,
) -> None:
    rng = random.Random(5)
    honest = encode(small(), dtype)
    received = header(small())
    passed = 0
    for _ in range(3000):
        data = bytearray(honest)
        first = 0 if rng.random() < 0.3 else LENGTH_BYTES + int.from_bytes(honest[:8], "little")
        for _ in range(rng.randrange(1, 4)):
            data[rng.randrange(first, len(data))] ^= 1 << rng.randrange(8)
        try:
            again = rewritten(bytes(data), received, dtype, max_bytes=MOST)
        except AdapterError:
            continue
        assert rewritten(again, received, dtype, max_bytes=MOST) == again
        if again == data and data != honest:
            passed += 1
            assert decode(again) != decode(honest)
    assert passed > 100  # another number is a number


def test_settings_without_an_encoding_are_refused() -> None:
    message, received = encode(small()), header(small())
    text = message.replace(b"chronos-bolt-nano", rb"\ud800-bolt-nano!")
    forged = read_header(text, MOST)
    assert forged.metadata != received.metadata
    with pytest.raises(AdapterError, match="half a surrogate pair"):
        rewritten(text, forged, "float32", max_bytes=MOST)


@given(adapters("int8"))
@settings(max_examples=100)
def test_int8_is_off_by_half_a_level_at_most_at_any_magnitude(adapter: Adapter) -> None:
    arrived = decode(encode(adapter, "int8"))
    for name, tensor in adapter.tensors.items():
        largest = float(np.abs(tensor).max())
        off = np.abs(arrived.tensors[name].astype(np.float64) - tensor)
        # Where the scale would be subnormal the matrix is zero: off by less than 127 x 2^-126.
        assert off.max() <= max(0.51 * largest / 127, 127 * 2.0**-126)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("sent", DTYPES)
@pytest.mark.parametrize("trained", ["ab", "b"])
def test_the_size_of_a_reply_is_known_from_the_request(
    dtype: WireDtype, sent: WireDtype, trained: str
) -> None:
    received = header(small(), sent, trained)
    assert reply_bytes(received, dtype) == len(encode(small(7.0), dtype, trained))
