from __future__ import annotations

import json
import math
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, RecordDict
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.numpy import load as load_safetensors
from safetensors.numpy import save as save_safetensors

from common.adapter.adapter import Adapter, tensor_name
from common.adapter.serialization.header import LENGTH_BYTES, METADATA
from common.adapter.serialization.message import (
    WireDtype,
    decode,
    encode,
    from_record,
    inspect,
    to_record,
)
from common.errors import AdapterError

BOLT_TARGETS = (
    r".*(encoder.*SelfAttention\.(q|k|v|o)"
    r"|decoder.*(SelfAttention\.(v|o)|EncDecAttention\.(q|k|v|o)))"
)
SETTINGS: dict[str, Any] = {
    "alpha": 16.0,
    "target_modules": BOLT_TARGETS,
    "backbone": "chronos-bolt-nano",
    "backbone_digest": "0123456789abcdef" * 4,
    "dropout": 0.05,
}
DTYPES: tuple[WireDtype, ...] = ("float32", "float16", "int8")


def bolt_modules() -> list[str]:
    """Layers that LoRA adapts in a Chronos-Bolt of 3 encoder and 2 decoder blocks."""
    names = [
        f"encoder.block.{block}.layer.0.SelfAttention.{projection}"
        for block in range(3)
        for projection in "qkvo"
    ]
    for block in range(2):
        names += [f"decoder.block.{block}.layer.0.SelfAttention.{p}" for p in "vo"]
        names += [f"decoder.block.{block}.layer.1.EncDecAttention.{p}" for p in "qkvo"]
    return names


def nano(rank: int = 8, width: int = 96) -> Adapter:
    rng = np.random.default_rng(7)
    tensors = {}
    for module in bolt_modules():
        tensors[tensor_name(module, "A")] = rng.normal(size=(rank, width)).astype(np.float32)
        tensors[tensor_name(module, "B")] = rng.normal(size=(width, rank)).astype(np.float32)
    return Adapter(tensors, rank=rank, **SETTINGS)


def small() -> Adapter:
    """Two sizes of layers, so that the message has two groups."""
    rng = np.random.default_rng(3)
    tensors = {}
    for module, (inputs, outputs) in {"b.q": (2, 2), "b.o": (2, 2), "b.wi": (2, 3)}.items():
        tensors[tensor_name(module, "A")] = rng.normal(size=(1, inputs)).astype(np.float32)
        tensors[tensor_name(module, "B")] = rng.normal(size=(outputs, 1)).astype(np.float32)
    return Adapter(tensors, rank=1, **SETTINGS)


def with_value(name: str, value: float) -> Adapter:
    tensors = {key: tensor.copy() for key, tensor in small().tensors.items()}
    tensors[name][0, 0] = value
    return Adapter(tensors, rank=1, **SETTINGS)


def header_of(data: bytes) -> dict[str, Any]:
    length = int.from_bytes(data[:LENGTH_BYTES], "little")
    header: dict[str, Any] = json.loads(data[LENGTH_BYTES : LENGTH_BYTES + length])
    return header


names = st.from_regex(r"[a-cX-Z019_-]{1,4}(\.[a-cX-Z019_-]{1,4}){0,2}", fullmatch=True)
texts = st.text(st.characters(categories=("L", "N", "P", "S")), min_size=1, max_size=20)


@st.composite
def adapters(draw: st.DrawFn) -> Adapter:
    """Any names, sizes and settings; numbers that float16 holds exactly."""
    sizes = st.tuples(st.integers(1, 4), st.integers(1, 4))
    rank = draw(st.integers(1, 3))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    tensors = {}
    for name, (inputs, outputs) in draw(
        st.dictionaries(names, sizes, min_size=1, max_size=6)
    ).items():
        for factor, shape in {"A": (rank, inputs), "B": (outputs, rank)}.items():
            numbers = rng.normal(size=shape).astype(np.float16)
            tensors[tensor_name(name, factor)] = numbers.astype(np.float32)
    return Adapter(
        tensors,
        rank=rank,
        alpha=draw(st.floats(1e-300, 1e300)),
        target_modules=draw(texts),
        backbone=draw(texts),
        backbone_digest="f" * 64,
        dropout=draw(st.floats(0, 1, exclude_max=True)),
    )


@given(adapters())
@settings(max_examples=100)
def test_decoding_inverts_encoding(adapter: Adapter) -> None:
    data = encode(adapter)
    assert decode(data) == adapter
    assert encode(decode(data)) == data
    assert decode(encode(adapter, "float16")) == adapter  # the numbers drawn fit into float16


def test_full_float32_precision_survives() -> None:
    assert decode(encode(nano())) == nano()


def test_float16_rounds_to_the_nearest() -> None:
    adapter = nano()
    for name, tensor in decode(encode(adapter, "float16")).tensors.items():
        np.testing.assert_array_equal(tensor, adapter.tensors[name].astype(np.float16))


@given(adapters())
@settings(max_examples=50)
def test_int8_is_off_by_half_a_level_of_each_matrix_at_most(adapter: Adapter) -> None:
    for name, tensor in decode(encode(adapter, "int8")).tensors.items():
        level = np.abs(adapter.tensors[name]).max() / 127
        np.testing.assert_array_less(np.abs(tensor - adapter.tensors[name]), 0.501 * level + 1e-30)


def test_int8_keeps_zeros_and_quarters_the_bytes() -> None:
    adapter = nano()
    zero = Adapter(
        {name: np.zeros_like(matrix) for name, matrix in adapter.tensors.items()},
        rank=8,
        **SETTINGS,
    )
    assert decode(encode(zero, "int8")) == zero
    assert len(encode(adapter, "int8")) < 0.27 * adapter.nbytes


@pytest.mark.parametrize("dtype", DTYPES)
def test_b_alone_is_sent_and_joined_with_the_shared_a(dtype: WireDtype) -> None:
    adapter = small()
    data = encode(adapter, dtype, "b")
    assert len(data) < len(encode(adapter, dtype))
    assert not any(name.startswith("A.") for name in header_of(data))
    received = decode(data, shared=adapter)
    whole = decode(encode(adapter, dtype))
    for name, tensor in received.tensors.items():
        expected = adapter if "lora_A" in name else whole
        np.testing.assert_array_equal(tensor, expected.tensors[name])


def test_b_alone_needs_the_very_same_a() -> None:
    data = encode(small(), trained="b")
    with pytest.raises(AdapterError, match="leaves out A, of which this side has none"):
        decode(data)
    other = with_value(tensor_name("b.q", "A"), 7.0)
    with pytest.raises(AdapterError, match="made with the shared A"):
        decode(data, shared=other)
    moved = with_value(tensor_name("b.q", "B"), 7.0)
    assert decode(data, shared=moved) == small()


@pytest.mark.parametrize("trained", ["ab", "b"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_message_is_summarised_without_the_shared_a(dtype: WireDtype, trained: str) -> None:
    adapter = small()
    summary = inspect(encode(adapter, dtype, trained))
    assert (summary.rank, summary.alpha, summary.trained) == (1, 16.0, trained)
    assert summary.dtype == dtype
    assert summary.backbone_digest == adapter.backbone_digest
    sent = {name for name in adapter.tensors if trained == "ab" or "lora_B" in name}
    assert summary.matrices.keys() == sent
    numbers = np.concatenate([summary.matrices[name].ravel() for name in sorted(sent)])
    assert summary.norm == pytest.approx(np.linalg.norm(numbers.astype(np.float64)))


def test_the_order_of_construction_does_not_matter() -> None:
    adapter = small()
    backwards = {name: adapter.tensors[name] for name in sorted(adapter.tensors)[::-1]}
    assert encode(Adapter(backwards, rank=1, **SETTINGS)) == encode(adapter)


def test_safetensors_reads_our_bytes(tmp_path: Path) -> None:
    adapter = small()
    tensors = load_safetensors(encode(adapter))
    assert {name: tensor.shape for name, tensor in tensors.items()} == {
        "A.0": (2, 1, 2), "B.0": (2, 2, 1), "A.1": (1, 1, 2), "B.1": (1, 3, 1),
    }  # fmt: skip
    np.testing.assert_array_equal(tensors["B.0"][1], adapter.pair("b.q")[1])
    assert int.from_bytes(encode(adapter)[:LENGTH_BYTES], "little") % 8 == 0  # stays aligned
    path = tmp_path / "adapter.safetensors"
    path.write_bytes(encode(adapter, "float16"))
    with safe_open(path, "np") as file:
        assert file.metadata()["modules"] == "0:b.o 2:q|0:b.wi"
        assert file.metadata()["rank"] == "1"


@pytest.mark.parametrize("dtype", DTYPES)
def test_we_read_safetensors_own_bytes(dtype: WireDtype) -> None:
    ours = encode(small(), dtype)
    metadata = header_of(ours)[METADATA]
    theirs = save_safetensors(load_safetensors(ours), metadata)
    assert decode(theirs) == decode(ours)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_numbers_that_are_not_finite_are_refused_by_name(value: float, dtype: WireDtype) -> None:
    name = tensor_name("b.q", "B")
    data = encode(with_value(name, value), dtype)
    with pytest.raises(AdapterError, match=f"not finite: {name}"):
        decode(data)
    assert decode(data, require_finite=False).first_nonfinite() == name


def test_a_signalling_nan_is_refused_like_any_other() -> None:
    for dtype, pattern in (("float32", "<u4"), ("float16", "<u2")):
        data = bytearray(encode(small(), "float16" if dtype == "float16" else "float32"))
        size = np.dtype(pattern).itemsize
        bits = 0x7FA00000 if size == 4 else 0x7D00
        data[-size:] = bits.to_bytes(size, "little")
        with pytest.raises(AdapterError, match="not finite"):
            decode(bytes(data))


@pytest.mark.parametrize("value", [65505.0, -1e30])
def test_a_number_too_large_for_float16_is_not_sent(value: float) -> None:
    adapter = with_value(tensor_name("b.q", "A"), value)
    with pytest.raises(AdapterError, match="float16 ends at 65504; send float32"):
        encode(adapter, "float16")
    assert decode(encode(adapter)) == adapter
    largest = with_value(tensor_name("b.q", "A"), 65504.0)
    assert decode(encode(largest, "float16")).pair("b.q")[0][0, 0] == 65504.0


def test_an_unknown_type_is_refused() -> None:
    with pytest.raises(AdapterError, match="unknown wire type 'int4'; use one of float32,"):
        encode(small(), "int4")  # type: ignore[arg-type]


def test_names_that_no_reader_would_accept_are_not_sent() -> None:
    tensors = {
        tensor_name(f"{index:04d}{'x' * 200}", factor): np.zeros((1, 1), np.float32)
        for index in range(400)
        for factor in "AB"
    }
    adapter = Adapter(tensors, rank=1, **SETTINGS)
    with pytest.raises(AdapterError, match="adapt fewer layers"):
        encode(adapter)


def test_a_small_adapter_costs_little_more_than_its_numbers() -> None:
    adapter = nano()
    assert len(encode(adapter)) <= 1.008 * adapter.nbytes
    assert len(encode(adapter, "float16")) <= 1.016 * adapter.nbytes / 2
    assert flower_bytes(adapter, "float32") <= 1.02 * adapter.nbytes


def flower_bytes(adapter: Adapter, dtype: WireDtype) -> int:
    """Return the bytes that Flower sends for a record of its own with the adapter in it."""
    content = RecordDict({"adapter": to_record(adapter, dtype)})
    return sum(len(part.deflate()) for part in get_all_nested_objects(content).values())


def test_reading_takes_a_small_multiple_of_the_message() -> None:
    data = encode(nano(rank=64))
    tracemalloc.start()
    try:
        decode(data)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2 * len(data)


def test_the_largest_size_is_inclusive() -> None:
    data = encode(small())
    assert decode(data, max_bytes=len(data)) == small()
    with pytest.raises(AdapterError, match="are accepted"):
        decode(data, max_bytes=len(data) - 1)


# --- Flower's record ----------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_record_holds_one_array_of_bytes(dtype: WireDtype) -> None:
    record = to_record(small(), dtype)
    assert list(record) == ["adapter"]
    assert record["adapter"].data == encode(small(), dtype)
    assert from_record(record) == decode(encode(small(), dtype))


def test_a_record_has_the_limits_of_decode() -> None:
    with pytest.raises(AdapterError, match="at most 100 are accepted"):
        from_record(to_record(small()), max_bytes=100)
    record = to_record(with_value(tensor_name("b.q", "A"), math.nan))
    with pytest.raises(AdapterError, match="not finite"):
        from_record(record)
    assert not from_record(record, require_finite=False).is_finite()


def records() -> dict[str, ArrayRecord]:
    data = encode(small())
    size = (len(data),)
    good = Array("uint8", size, "safetensors", data)
    return {
        "none": ArrayRecord(),
        "two": ArrayRecord({"adapter": good, "more": good}),
        "key": ArrayRecord({"weights": good}),
        "stype": ArrayRecord({"adapter": Array("uint8", size, "numpy.ndarray", data)}),
        "dtype": ArrayRecord({"adapter": Array("float32", size, "safetensors", data)}),
        "shape": ArrayRecord({"adapter": Array("uint8", (10**11,), "safetensors", data)}),
        "numpy": ArrayRecord({"adapter": Array(np.frombuffer(data, np.uint8))}),
    }


@pytest.mark.parametrize("name", list(records()))
def test_every_other_record_is_refused(name: str) -> None:
    with pytest.raises(AdapterError, match="adapter message refused: expected"):
        from_record(records()[name])
