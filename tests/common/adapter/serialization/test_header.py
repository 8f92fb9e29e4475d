from __future__ import annotations

import json
import random
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.adapter.adapter import Adapter, tensor_name
from common.adapter.serialization.header import LENGTH_BYTES, MAX_HEADER_BYTES, METADATA
from common.adapter.serialization.message import WireDtype, decode, encode
from common.errors import AdapterError

SETTINGS: dict[str, Any] = {
    "alpha": 16.0,
    "target_modules": ".*",
    "backbone": "chronos-bolt-nano",
    "backbone_digest": "0123456789abcdef" * 4,
    "dropout": 0.05,
}
DTYPES: tuple[WireDtype, ...] = ("float32", "float16", "int8")


def small() -> Adapter:
    """Two sizes of layers, so that the message has two groups."""
    rng = np.random.default_rng(3)
    tensors = {}
    for module, (inputs, outputs) in {"b.q": (2, 2), "b.o": (2, 2), "b.wi": (2, 3)}.items():
        tensors[tensor_name(module, "A")] = rng.normal(size=(1, inputs)).astype(np.float32)
        tensors[tensor_name(module, "B")] = rng.normal(size=(outputs, 1)).astype(np.float32)
    return Adapter(tensors, rank=1, **SETTINGS)


def header_of(data: bytes) -> dict[str, Any]:
    length = int.from_bytes(data[:LENGTH_BYTES], "little")
    header: dict[str, Any] = json.loads(data[LENGTH_BYTES : LENGTH_BYTES + length])
    return header


def body_of(data: bytes) -> bytes:
    return data[LENGTH_BYTES + int.from_bytes(data[:LENGTH_BYTES], "little") :]


def message(header: bytes | str | dict[str, Any], body: bytes = b"") -> bytes:
    if isinstance(header, dict):
        header = json.dumps(header)
    raw = header.encode() if isinstance(header, str) else header
    return len(raw).to_bytes(LENGTH_BYTES, "little") + raw + body


def edited(edit: Callable[[dict[str, Any]], object]) -> bytes:
    """The small adapter's message after `edit` changed its header in place."""
    data = encode(small())
    header = header_of(data)
    edit(header)
    return message(header, body_of(data))


def entry(name: str, **changes: Any) -> bytes:
    return edited(lambda header: header[name].update(changes))


def metadata(**changes: Any) -> bytes:
    return edited(lambda header: header[METADATA].update(changes))


def edited_int8(name: str, **changes: Any) -> bytes:
    data = encode(small(), "int8")
    header = header_of(data)
    header[name].update(changes)
    return message(header, body_of(data))


FORGED: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "too few for a header"),
    "seven bytes": (b"\0" * 7, "too few for a header"),
    "header beyond the data": (b"\xff" * 8 + b"{}", "header of 18446744073709551615 bytes"),
    "header just beyond the data": (
        (1000).to_bytes(LENGTH_BYTES, "little") + encode(small())[LENGTH_BYTES:],
        "header of 1000 bytes",
    ),
    "header beyond the limit": (
        message(b" " * (MAX_HEADER_BYTES + 1)),
        "headers have at most",
    ),
    "no JSON": (message(b"\x80\x04K\x01."), "header is not JSON"),
    "not UTF-8": (message(b'{"\xff": 1}'), "header is not JSON"),
    "a list": (message("[]"), "not a JSON object"),
    "deep lists": (message("[" * 60_000), "header is not JSON: RecursionError"),
    "deep closed objects": (message('{"a":' * 900 + "1" + "}" * 900), "refused"),
    "endless integer": (message('{"a":' + "9" * 60_000 + "}"), "a huge integer"),
    "negative integer": (message('{"a":-1}'), "a negative"),
    "float": (message('{"a":1e999}'), "no integer"),
    "NaN": (message('{"a":NaN}'), "no integer"),
    "key twice": (message('{"a":1,"a":1}'), "names a key twice"),
    "no metadata": (message("{}"), "no metadata"),
    "other format": (metadata(format="fedvitals-adapter/2"), "this release reads"),
    "metadata twice": (
        message(b'{"__metadata__":{"rank":"1","rank":"2"}}'),
        "names a key twice",
    ),
    "metadata too many": (metadata(patient="17"), "metadata must have the keys"),
    "metadata too few": (
        edited(lambda header: header[METADATA].pop("dropout")),
        "metadata must have the keys",
    ),
    "metadata no text": (metadata(rank=1), "metadata rank is not text"),
    "rank of zero": (metadata(rank="0"), "metadata rank"),
    "other rank": (metadata(rank="2"), r"expected \[2, in\]"),
    "rank in other digits": (metadata(rank="\u0661"), "metadata rank"),
    "alpha with spaces": (metadata(alpha=" 16.0"), "metadata alpha is ' 16.0', expected 16.0"),
    "alpha NaN": (metadata(alpha="nan"), "alpha must be above 0"),
    "alpha no number": (metadata(alpha="x"), "not a number"),
    "dropout of one": (metadata(dropout="1.0"), "dropout"),
    "digest": (metadata(backbone_digest="x"), "64 lower-case"),
    "line break": (metadata(backbone="a\nb"), "printable"),
    "lone surrogate": (metadata(backbone="\ud800"), "printable"),
    "other type": (entry("A.0", dtype="F64"), "type 'F64', not F32, F16 or I8"),
    "type no text": (entry("A.0", dtype=["F32"]), "not F32, F16 or I8"),
    "types mixed": (entry("A.0", dtype="F16", shape=[4, 1, 2]), "several types"),
    "two dimensions": (entry("A.0", shape=[2, 2]), "not three counts"),
    "dimension true": (entry("A.0", shape=[2, True, 2]), "not three counts"),
    "dimension zero": (entry("A.0", shape=[0, 1, 2], data_offsets=[0, 0]), "not three counts"),
    "deep shape": (
        entry("A.0", shape=json.loads("[" * 400 + "]" * 400)),
        "not three counts",
    ),
    "1e11 floats": (entry("A.0", shape=[2, 1, 10**11]), "does not fill"),
    "1e11 floats, offsets too": (
        entry("A.0", shape=[1, 1, 10**11], data_offsets=[0, 4 * 10**11]),
        "expected 400000000000",
    ),
    "product of 1e42": (entry("A.0", shape=[10**14] * 3), "does not fill"),
    "offsets backwards": (entry("A.0", data_offsets=[16, 0]), "does not fill"),
    "three offsets": (entry("A.0", data_offsets=[0, 16, 16]), "not two"),
    "overlap": (entry("A.1", data_offsets=[8, 16]), "begins at 8, expected 16"),
    "gap": (
        edited(lambda header: [header.pop("A.0"), header.pop("A.1")]),
        "expected 0",
    ),
    "extra key": (entry("A.0", note="x"), "must have the keys"),
    "entry no object": (edited(lambda header: header.update({"A.0": []})), "must have the keys"),
    "scales without int8": (
        edited(lambda header: header.update({"A.0.scale": header.pop("A.1")})),
        "scales do not fit",
    ),
    "int8 without scales": (
        message(
            {
                METADATA: header_of(encode(small()))[METADATA],
                "A.0": {"dtype": "I8", "shape": [2, 1, 2], "data_offsets": [0, 4]},
            },
            b"1234",
        ),
        "scales do not fit",
    ),
    "a scale in int8": (
        edited_int8("A.0.scale", dtype="I8", shape=[8, 1, 1]),
        "not one float32 a matrix",
    ),
    "a scale for each number": (
        edited_int8("A.0.scale", shape=[1, 1, 2]),
        "not one float32 a matrix",
    ),
    "trained c": (metadata(trained="c"), "trained is 'c', not ab or b"),
    "A sent and shared": (metadata(frozen_a="ab"), "frozen_a"),
    "A neither sent nor shared": (metadata(trained="b"), "frozen_a"),
    "b alone, with A": (metadata(trained="b", frozen_a="0" * 64), "do not fit the 4 tensors"),
    "data longer": (encode(small()) + b"\0", "the data at"),
    "data shorter": (encode(small())[:-1], "the data at"),
    "unknown tensor": (
        edited(lambda header: header.update({"C.0": header.pop("A.0")})),
        "do not fit the 4 tensors",
    ),
    "no tensors": (
        message({METADATA: header_of(encode(small()))[METADATA]}),
        "do not fit the 0 tensors",
    ),
    "a name missing": (metadata(modules="0:b.o|0:b.wi"), "not for its 1 layers"),
    "a name twice": (metadata(modules="0:b.o 3:|0:b.wi"), "named twice"),
    "a name in two groups": (metadata(modules="0:b.o 2:q|0:b.q"), "named twice"),
    "no names": (metadata(modules=""), "names are damaged"),
    "prefix of nothing": (metadata(modules="1:b.o 2:q|0:b.wi"), "names are damaged"),
    "a name too long": (metadata(modules=f"0:{'x' * 257} 2:q|0:b.wi"), "longer than 256"),
    "a name of dots": (metadata(modules="0:.. 2:q|0:b.wi"), "not a LoRA matrix"),
}


@pytest.mark.parametrize("name", list(FORGED))
def test_a_forged_message_is_refused_for_its_own_reason(name: str) -> None:
    data, reason = FORGED[name]
    with pytest.raises(AdapterError, match=reason) as caught:
        decode(data)
    assert len(str(caught.value)) < 600


def test_nothing_big_is_allocated_for_a_forged_message() -> None:
    tracemalloc.start()
    try:
        for name, (data, _) in FORGED.items():
            tracemalloc.reset_peak()
            before, _ = tracemalloc.get_traced_memory()
            with pytest.raises(AdapterError):
                decode(data)
            _, peak = tracemalloc.get_traced_memory()
            assert peak - before < 4 * 2**20, name
    finally:
        tracemalloc.stop()


def fuzzed(rng: random.Random) -> bytes:
    """Noise, tokens of JSON, a message with bytes spoilt, or one with forged header values."""
    match rng.randrange(4):
        case 0:
            return rng.randbytes(rng.randrange(200))
        case 1:
            tokens = ["{", "}", "[", "]", ":", ",", '"a"', '"__metadata__"', "1", "-1", "1e9"]
            text = "".join(rng.choices(tokens, k=rng.randrange(30)))
            return message(text, rng.randbytes(rng.randrange(50)))
        case 2:
            return with_spoilt_bytes(rng, rng.choice(SHORT_FORGED))
        case _:
            return with_forged_values(rng)


def with_spoilt_bytes(rng: random.Random, source: bytes) -> bytes:
    data = bytearray(source)
    for _ in range(rng.randrange(1, 4)):
        at = rng.randrange(len(data) + 1)
        match rng.randrange(4):
            case 0:
                data[at : at + 1] = rng.randbytes(1)
            case 1:
                data[at:at] = rng.randbytes(rng.randrange(1, 9))
            case 2:
                del data[at : at + rng.randrange(1, 40)]
            case _:
                data[at : at + 1] = rng.choice([b"9" * 11, b'"', b"[", b"}", b"\xff", b"\\u"])
    return bytes(data)


def with_forged_values(rng: random.Random) -> bytes:
    """An honest length and sound JSON, so that the later checks are reached."""
    data = encode(small(), rng.choice(DTYPES), rng.choice(["ab", "b"]))
    header = header_of(data)
    for _ in range(rng.randrange(1, 4)):
        part = header[rng.choice(list(header))]
        key = rng.choice(list(part))
        values: list[Any] = [
            0,
            1,
            10**11,
            2**70,
            -1,
            1.5,
            True,
            None,
            "",
            "1",
            "F16",
            "0:a",
            [],
            {},
            "\ud800",
        ]
        if part[key] and isinstance(part[key], list) and rng.random() < 0.8:
            part[key][rng.randrange(len(part[key]))] = rng.choice([*values, *range(20)])
        elif isinstance(part[key], str) and rng.random() < 0.5:
            at = rng.randrange(len(part[key]) + 1)
            part[key] = part[key][:at] + rng.choice("0129:|. aF\n\0ä") + part[key][at + 1 :]
        else:
            part[key] = rng.choice(values)
    return message(header, body_of(data))


SHORT_FORGED = [encode(small()), *(data for data, _ in FORGED.values() if len(data) < 5000)]


def test_ten_thousand_fuzzed_messages_give_nothing_but_adapter_errors() -> None:
    rng = random.Random(20)
    accepted: list[Adapter] = []
    reasons = set()
    for _ in range(10_000):
        data = fuzzed(rng)
        try:
            accepted.append(decode(data, shared=small()))
        except AdapterError as error:
            reasons.add(str(error)[:40])
    assert len(reasons) > 100  # the fuzz reaches more than the first few checks
    # A changed digit of a number, a name or a setting is an adapter still: a sound one.
    assert len(accepted) < 500
    assert all(decode(encode(adapter)) == adapter for adapter in accepted)


texts = st.text(st.characters(categories=("L", "N", "P", "S")), max_size=20)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=8,
)


@given(st.binary(max_size=100) | json_values.map(lambda value: message(json.dumps(value))))
@settings(max_examples=100)
def test_no_json_and_no_bytes_pass(data: bytes) -> None:
    with pytest.raises(AdapterError):
        decode(data)
