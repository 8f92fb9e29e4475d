"""Checkpoints that attack: nothing in them is run, whatever its pickle asks for."""

from __future__ import annotations

import os
import pickle
import re
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from common.backbones.base import weights_digest
from common.backbones.lag_llama.convert import convert_lag_llama
from common.backbones.lag_llama.lag_llama import LagLlama
from common.backbones.torch_pickle.checkpoint import open_checkpoint
from tests.common.backbones.torch_pickle.checkpoints import content, network, refused, write


class Call:
    """Pickles to a call of anything with anything."""

    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


def with_pickle(path: Path, data: bytes, source: Path) -> Path:
    """Put another pickle into a checkpoint, as an attacker would."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(path, "w") as new:
        for entry in old.infolist():
            body = data if entry.filename.endswith("/data.pkl") else old.read(entry)
            new.writestr(entry.filename, body)
    return path


def calls(marker: Path) -> dict[str, Call]:
    """Objects whose unpickling makes the marker, by different ways."""
    code = f"open({str(marker)!r}, 'w').close()"
    return {
        "os.system": Call(os.system, f"touch {marker}"),
        "eval": Call(eval, code),
        "exec": Call(exec, code),
        "open": Call(open, str(marker), "w"),
        "a method": Call(Path.touch, marker),
        "a torch function": Call(torch.save, {}, str(marker)),
        "a list of calls": Call(list, Call(map, eval, [code])),
    }


def raw(marker: Path) -> dict[str, bytes]:
    """Pickles written by hand, with what the module's own pickler would not write."""

    def text(value: str) -> bytes:
        return b"X" + struct.pack("<I", len(value)) + value.encode()

    command = text(f"touch {marker}")
    name = b"cbuiltins\n__import__\n(" + text("os") + b"tR"
    system = b"cbuiltins\ngetattr\n(" + name + text("system") + b"tR"
    return {
        "getattr chain": b"\x80\x02" + system + b"(" + command + b"tR.",
        "chain in a dict": b"\x80\x02}" + text("a") + system + b"(" + command + b"tRs.",
        "instance": b"(" + command + b"ios\nsystem\n.",
        "object": b"(cos\nsystem\n" + command + b"o.",
        "stack global": b"\x80\x04" + text("os") + text("system") + b"\x93(" + command + b"tR.",
        "memo": b"\x80\x02" + system + b"q\x00" + b"h\x00(" + command + b"tR.",
    }


def control(data: bytes) -> None:
    pickle.loads(data)


@pytest.mark.parametrize("way", calls(Path("unused")))
def test_the_hostile_objects_are_hostile(way: str, tmp_path: Path) -> None:
    control(pickle.dumps(calls(tmp_path / "ran")[way], protocol=2))
    assert (tmp_path / "ran").exists()


@pytest.mark.parametrize("way", raw(Path("unused")))
def test_the_hostile_pickles_are_hostile(way: str, tmp_path: Path) -> None:
    control(raw(tmp_path / "ran")[way])
    assert (tmp_path / "ran").exists()


@pytest.mark.parametrize("way", calls(Path("unused")))
def test_nothing_that_a_checkpoint_asks_for_is_run(way: str, tmp_path: Path) -> None:
    marker, out = tmp_path / "ran", tmp_path / "out"
    hostile = calls(marker)[way]
    alone = write(tmp_path / "alone.ckpt", hostile)
    assert "holds no state_dict" in refused(alone, out)

    values = content()
    values["hyper_parameters"]["loss"] = hostile
    values["callbacks"] = [{"deep": ({"deeper": [hostile]}, hostile)}]
    values["state_dict"]["_extra_state"] = hostile
    convert_lag_llama(write(tmp_path / "x.ckpt", values), out)  # the tensors themselves are sound

    assert not marker.exists()
    assert weights_digest(LagLlama().build(out)) == weights_digest(network())


@pytest.mark.parametrize("way", raw(Path("unused")))
def test_no_pickle_written_by_hand_is_run(way: str, checkpoint: Path, tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    path = with_pickle(tmp_path / "x.ckpt", raw(marker)[way], checkpoint)
    refused(path, tmp_path / "out")
    assert not marker.exists()


def test_a_call_in_place_of_a_tensor_is_not_run(tmp_path: Path) -> None:
    marker, values = tmp_path / "ran", content()
    values["state_dict"]["model.transformer.wte.weight"] = calls(marker)["os.system"]
    message = refused(write(tmp_path / "x.ckpt", values), tmp_path / "out")
    assert "lacks the tensor 'model.transformer.wte.weight'" in message
    assert not marker.exists()


def test_a_storage_that_is_a_call_is_not_run(checkpoint: Path, tmp_path: Path) -> None:
    # torch hands what a persistent id says to its own code: here it says a function.
    marker = tmp_path / "ran"
    system = raw(marker)["getattr chain"].removesuffix(b".")
    for pid in (system, b"(X\x07\x00\x00\x00storage" + system.removeprefix(b"\x80\x02") + b"NNNt"):
        data = (b"" if pid.startswith(b"\x80") else b"\x80\x02") + pid + b"Q."
        message = refused(with_pickle(tmp_path / "x.ckpt", data, checkpoint), tmp_path / "out")
        assert "external object" in message
        assert not marker.exists()


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n}X\x01\x00\x00\x00aK\x01sb.", "state to"),
        (b"\x80\x02ctorch\nFloatStorage\n}X\x05\x00\x00\x00dtypeK\x01sb.", "state to"),
        (b"\x80\x02\x82\xf0.", "opcode EXT1"),
        (b"\x80\x02}r\xff\xff\xff\x7f.", "memo slot 2147483647"),
        (b"\x80\x04\x8e\xff\xff\xff\xff\xff\x00\x00\x00.", "pickle is damaged"),
        (b"\x80\x05\x96\xff\xff\xff\xff\x0f\x00\x00\x00.", "pickle is damaged"),
        (b"\x80\x02}", "pickle is damaged"),
        (b"\x80\x02R.", "pickle is damaged"),
        (b"", "pickle is damaged"),
        (b"\x80\x02ccollections\nOrderedDict\nK\x05\x85R.", "pickle is damaged"),
        (b"\x80\x02cbad\x1b[2Jname\nx\n.", r"bad\?\[2Jname.x, which was not run"),
    ],
    ids=[
        *("state of a function", "state of a storage", "registry", "memo", "bytes", "bytearray"),
        *("cut off", "empty stack", "empty", "bad argument", "terminal escape"),
    ],
)
def test_a_pickle_that_plays_tricks_is_one_clear_line(
    data: bytes, match: str, checkpoint: Path, tmp_path: Path
) -> None:
    path = with_pickle(tmp_path / "x.ckpt", data, checkpoint)
    assert re.search(match, refused(path, tmp_path / "out"))


def test_names_below_what_is_allowed_are_not_looked_up(checkpoint: Path, tmp_path: Path) -> None:
    names = [
        ("torch._utils", "_rebuild_tensor_v2.__globals__"),
        ("collections", "OrderedDict.fromkeys"),
        ("torch", "FloatStorage.from_file"),
        ("torch", "load"),
    ]
    data = b"\x80\x04]("
    for name in names:
        for part in name:
            data += b"\x8c" + bytes([len(part)]) + part.encode()
        data += b"\x93"
    path = with_pickle(tmp_path / "x.ckpt", data + b"e.", checkpoint)
    with open_checkpoint(path) as opened:
        assert set(opened.unknown_names) == {".".join(name) for name in names}
