"""The interpreter of pickles: it reads plain values as pickle does, and ends whatever comes."""

from __future__ import annotations

import pickle
import re
import struct
import subprocess
import sys
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import common.backbones.torch_pickle.opcodes as pickle_reader
from common.backbones.torch_pickle.byte_source import PickleError
from common.backbones.torch_pickle.checkpoint import open_checkpoint
from common.backbones.torch_pickle.opcodes import read_pickle
from common.backbones.torch_pickle.placeholders import Inert, Storage, StoredTensor
from common.errors import BackboneError
from tests.common.backbones.torch_pickle.bombs import BOMBS
from tests.common.backbones.torch_pickle.checkpoints import refused, write

LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False),
    st.text(max_size=20),
    st.binary(max_size=20),
)
PLAIN = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.tuples(inner, inner),
        st.dictionaries(st.text(max_size=8), inner, max_size=4),
    ),
    max_leaves=20,
)
ARGUMENTS = {b"I": 1, b"M": 2, b"J": 4, b"G": 8, b"K": 1, b"q": 1, b"r": 4, b"h": 1, b"j": 4}


@st.composite
def programs(draw: st.DrawFn) -> bytes:
    """Opcodes in any order; most have what they need on the stack."""
    made = [b"\x80\x04(]}\x8f)N"]
    for code in draw(st.lists(st.sampled_from(sorted(pickle_reader._STEPS)), max_size=60)):
        made.append(code)
        if code in b"\x8a\x8cC\x80":
            taken = draw(st.binary(max_size=6))
            made.append(bytes([len(taken)]) + taken if code != b"\x80" else b"\x04")
        elif code in b"X\x8bB":
            taken = draw(st.binary(max_size=6))
            made.append(struct.pack("<I", len(taken)) + taken)
        elif code in b"\x8d\x8e\x96\x95":
            made.append(struct.pack("<Q", 0))
        elif code == b"c":
            made.append(draw(st.sampled_from([b"os\nsystem\n", b"torch\nFloatStorage\n"])))
        elif code in ARGUMENTS:
            made.append(draw(st.integers(0, 3)).to_bytes(ARGUMENTS[code], "little"))
    return b"".join([*made, b"."])


@given(PLAIN, st.integers(3, 5))
def test_plain_values_are_as_pickle_reads_them(value: object, protocol: int) -> None:
    # Protocol 2, which torch writes, has no opcode for bytes; checkpoints of it are below.
    assert read_pickle(pickle.dumps(value, protocol)) == (value, ())


@given(programs())
def test_any_program_ends_in_a_value_or_in_our_own_error(data: bytes) -> None:
    with suppress(PickleError):
        read_pickle(data)


@given(st.data())
def test_a_damaged_checkpoint_ends_in_our_own_error_or_in_a_value(data: st.DataObject) -> None:
    whole = bytearray(pickle.dumps({"a": [1, (2.5, "b")], "c": {"d": Path("e")}}, protocol=2))
    for place in data.draw(st.lists(st.integers(0, len(whole) - 1), max_size=4)):
        whole[place] = data.draw(st.integers(0, 255))
    with suppress(PickleError):
        read_pickle(bytes(whole))


def test_what_is_not_needed_is_passed_over() -> None:
    value = {"kept": 1, 2: "number", (3,): "tuple", None: "none", "set": {4}, "long": 1 << 200}
    read, unknown_names = read_pickle(pickle.dumps(value, protocol=4))
    assert isinstance(read, dict)
    assert read.keys() == {"kept", "set", "long"}
    assert isinstance(read["set"], Inert)
    assert isinstance(read["long"], Inert)
    assert unknown_names == ()


def test_one_value_that_stands_in_many_places_is_kept_once() -> None:
    shared: list[int] = [1]
    read: Any = read_pickle(pickle.dumps([shared] * 1000, protocol=2))[0]
    assert len({id(one) for one in read}) == 1


def test_a_tensor_is_only_noted(tmp_path: Path) -> None:
    with open_checkpoint(write(tmp_path / "x.ckpt", {"a": torch.ones(2, 3)})) as opened:
        tensor = opened.content["a"]  # type: ignore[index]
    assert isinstance(tensor, StoredTensor)
    assert tensor.storage == Storage(torch.float32, "0", 6)
    assert (tensor.offset, tensor.size, tensor.stride) == (0, (2, 3), (3, 1))


@pytest.mark.parametrize("opcode", [b"I1\n", b"L1L\n", b"F1\n", b"V1\n", b"S'a'\n", b"g0\n", b"2"])
def test_what_torch_does_not_write_is_refused(opcode: bytes) -> None:
    with pytest.raises(PickleError, match="which torch does not write"):
        read_pickle(b"\x80\x02N" + opcode + b".")


def test_steps_and_names_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pickle_reader, "MOST_OPCODES", 10)
    assert read_pickle(b"N" * 9 + b".") == (None, ())
    with pytest.raises(PickleError, match="more than 10 opcodes"):
        read_pickle(b"N" * 10 + b".")
    monkeypatch.undo()
    names = b"".join(b"ca\nb%d\n" % number for number in range(1001))
    with pytest.raises(PickleError, match="more than 1000 names"):
        read_pickle(names + b".")


def test_tensors_that_share_a_storage_are_not_larger_together_than_the_file(
    tmp_path: Path,
) -> None:
    """Each fits the bytes that are there; together they would be many times as much."""
    shared = torch.ones(64, 64)
    values = {f"{number}": shared for number in range(40)}
    with open_checkpoint(write(tmp_path / "x.ckpt", values)) as opened:
        read: Any = opened.content
        opened.tensor("0", read["0"], (64, 64))
        with pytest.raises(BackboneError, match="larger than the file together"):
            for name, tensor in read.items():
                opened.tensor(name, tensor, (64, 64))


def test_a_zip_of_entries_without_end_is_not_listed(tmp_path: Path) -> None:
    path = tmp_path / "x.ckpt"
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(80):
            archive.writestr(f"{number}".ljust(60_000, "a"), b"")
    assert "its directory has" in refused(path, tmp_path / "out")


@pytest.mark.slow
def test_every_bomb_ends_with_one_short_line_within_time_and_memory(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "tests.common.backbones.torch_pickle.bombs",
        str(tmp_path),
        *BOMBS,
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=400, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    ended = [line.split(" ", 2) for line in done.stdout.splitlines()]
    assert [name for name, _, _ in ended] == list(BOMBS)
    assert all(int(length) < 1000 for _, length, _ in ended)
    assert all(re.search("cannot be converted: .*; fetch the", said) for _, _, said in ended)
