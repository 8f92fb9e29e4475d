"""Covert channels of an approved app: no bit gets through the gate beside the numbers.

The channels are in `adapter_channels`; the gate is the site's own, with the policy that is shipped.
"""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from client.egress.adapter_rules import CheckedAdapter, check_adapter
from client.egress.message_parser import ParsedArray
from client.policy.policy import load_policy
from client.policy.refusal import RefusedError
from common.adapter.serialization.header import LENGTH_BYTES, read_header
from common.adapter.serialization.message import encode
from tests.attacks.scenarios.adapter_channels import CHANNELS, MOST, Channel, adapter

POLICY = load_policy(Path(__file__).parents[2] / "deploy" / "site" / "policy.toml")


def judged(message: bytes, dtype: str = "float32") -> CheckedAdapter:
    """Return the gate's decision on a reply to the adapter that the server sent."""
    down = "float32" if dtype == "float32" else "float16"
    received = read_header(encode(adapter(), down), MOST)  # type: ignore[arg-type]
    array = ParsedArray("uint8", (len(message),), "safetensors", message)
    return check_adapter({"adapter": array}, received, dtype, POLICY)


def payloads(channel: Channel) -> list[int]:
    """Nothing, each of the first and last bits alone, all of them, and drawn ones."""
    rng = random.Random(0)
    ends = [1 << bit for bit in {*range(min(9, channel.bits)), channel.bits - 1}]
    drawn = [rng.getrandbits(channel.bits) for _ in range(20)]
    return sorted({0, *ends, 2**channel.bits - 1, *drawn})


def told(channel: Channel) -> set[int]:
    """The payloads that reach the coordinator."""
    found = set()
    for payload in payloads(channel):
        message = channel.hide(payload)
        assert channel.find(message) == payload
        try:
            sent = judged(message, channel.dtype).data
        except RefusedError:
            continue
        found.add(channel.find(sent))
    return found


@pytest.mark.parametrize("name", list(CHANNELS))
def test_a_channel_beside_the_numbers_carries_no_bit(name: str) -> None:
    """One spelling passes, the app's own: 0 bits of each channel's.

    Before: bits of a message of 2,688 numbers that got through: order of tensors 9, of tensors and
    scales 28, type of number 1, scales over zero levels 270, signs of scales 9, the level -128 9,
    negative zeros 1,344, the same in float16 1,344, subnormals 30,912; spaces in the header and
    payloads of NaN none.
    """
    channel = CHANNELS[name]
    assert channel.hide(0) == encode(adapter(), channel.dtype)
    assert told(channel) == {0}
    assert len(payloads(channel)) >= min(2**channel.bits, 12)


def test_what_is_sent_is_written_by_the_gate() -> None:
    """An honest message leaves unchanged, and the audit log records its facts.

    Before: the app's own bytes were sent.
    """
    for dtype in ("float32", "float16", "int8"):
        message = encode(adapter(), dtype)
        sent = judged(message, dtype)
        assert sent.data == message
        assert sent.data is not message
        assert {kind for name, kind, _ in sent.tensors if ".scale" not in name} == {dtype}


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"A.0"', '"\\u0041.0"'),
        ('"F32"', '"F\\u00332"'),
        ('{"__metadata__":', '{ "__metadata__":'),
        ('"rank":"8"', '"rank":"8","rank":"8"'),
        ('"dropout":"0.05"', '"dropout":"5e-2"'),
        ('"alpha":"16.0"', '"alpha":"16.00"'),
    ],
)
def test_another_spelling_of_the_header_stays(old: str, new: str) -> None:
    """Escapes, spaces, a key twice, a number otherwise written.

    Before: refused too; now it cannot leave, since no header but the gate's own does.
    """
    message = encode(adapter())
    start = read_header(message, MOST).start
    text = message[LENGTH_BYTES:start].decode().rstrip()
    assert old in text
    raw = text.replace(old, new, 1).encode()
    raw += b" " * (-len(raw) % 8)
    changed = len(raw).to_bytes(LENGTH_BYTES, "little") + raw + message[start:]
    with pytest.raises(RefusedError) as refusal:
        judged(changed)
    assert refusal.value.code == "adapter"


def test_the_keys_of_the_header_have_one_order() -> None:
    """Before: refused too."""
    message = encode(adapter())
    start = read_header(message, MOST).start
    entries = json.loads(message[LENGTH_BYTES:start])
    turned = {name: dict(reversed(entry.items())) for name, entry in entries.items()}
    raw = json.dumps(turned, separators=(",", ":")).encode()
    raw += b" " * (-len(raw) % 8)
    with pytest.raises(RefusedError):
        judged(len(raw).to_bytes(LENGTH_BYTES, "little") + raw + message[start:])


def test_a_rank_is_that_of_the_matrices() -> None:
    """A request whose header declares rank 1 and whose shapes have rank 8 gets no reply.

    Before: the policy's largest rank was held against the header's word alone.
    """
    forged = encode(adapter()).replace(b'"rank":"8"', b'"rank":"1"')
    array = ParsedArray("uint8", (len(forged),), "safetensors", forged)
    with pytest.raises(RefusedError) as refusal:
        check_adapter({"adapter": array}, read_header(forged, MOST), "float32", POLICY)
    assert refusal.value.code == "rank"


def test_a_run_whose_type_of_number_is_unknown_gets_no_adapter() -> None:
    """Before: the app chose the type, among three."""
    message = encode(adapter())
    array = ParsedArray("uint8", (len(message),), "safetensors", message)
    with pytest.raises(RefusedError) as refusal:
        check_adapter({"adapter": array}, read_header(message, MOST), None, POLICY)
    assert refusal.value.code == "question"
