from __future__ import annotations

import json
import os
import pickle
import re
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from client.commands import app
from client.convert.checkpoint import open_checkpoint
from client.convert.lag_llama import convert
from common.backbones.base import weights_digest
from common.backbones.lag_llama import LagLlama
from common.backbones.lag_llama_network import LagLlamaNetwork
from common.backbones.lag_llama_sizes import PUBLISHED_LAGS, LagLlamaSizes
from common.backbones.loading import load_backbone
from common.cli import run
from common.errors import BackboneError, UsageError
from common.home import backbone_folder

SIZES = LagLlamaSizes(
    context_length=8, max_context_length=64, n_layer=1, n_head=2, n_embd_per_head=4,
    lags_seq=PUBLISHED_LAGS[:5],
)  # fmt: skip


class Loss:
    """As Lightning keeps whatever objects the module was made with."""

    def __init__(self) -> None:
        self.beta = 0.5


class Settings(dict[str, object]):
    """A library's own kind of dict."""


class Call:
    """Pickles to a call of anything with anything."""

    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


def network(seed: int = 0) -> LagLlamaNetwork:
    torch.manual_seed(seed)
    return LagLlamaNetwork(SIZES)


def content(seed: int = 0) -> dict[str, Any]:
    """What Lightning puts into a checkpoint of the original module."""
    state = OrderedDict(
        (f"model.{key}", value) for key, value in network(seed).state_dict().items()
    )
    optimizer = {"state": {0: {"step": torch.tensor(3.0), "exp_avg": torch.ones(4)}}}
    kwargs = {**SIZES.to_json(), "scaling": "robust", "input_size": 1, "distr_output": Loss()}
    return {
        "epoch": 1019,
        "global_step": 102000,
        "pytorch-lightning_version": "2.1.3",
        "state_dict": state,
        "loops": {"fit_loop": {"state_dict": {}}},
        "callbacks": {"ModelCheckpoint": {"dirpath": Path("results"), "best": torch.tensor(1.5)}},
        "optimizer_states": [optimizer],
        "hparams_name": "kwargs",
        "hyper_parameters": {"model_kwargs": kwargs, "loss": Loss(), "device": torch.device("cpu")},
    }


def write(path: Path, values: object) -> Path:
    torch.save(values, path)
    return path


def with_pickle(path: Path, data: bytes, source: Path) -> Path:
    """Put another pickle into a checkpoint, as an attacker would."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(path, "w") as new:
        for entry in old.infolist():
            body = data if entry.filename.endswith("/data.pkl") else old.read(entry)
            new.writestr(entry.filename, body)
    return path


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return write(tmp_path / "lag-llama.ckpt", content())


def refused(path: Path, out: Path) -> str:
    with pytest.raises(BackboneError) as error:
        convert(path, out)
    assert not out.exists()
    assert [entry.name for entry in out.parent.iterdir() if entry.name.endswith(".partial")] == []
    message = str(error.value)
    assert "\n" not in message
    assert message.isprintable()
    return message


def test_a_lightning_checkpoint_is_converted_loads_and_is_equal(
    checkpoint: Path, tmp_path: Path
) -> None:
    with pytest.raises(pickle.UnpicklingError):
        torch.load(checkpoint, weights_only=True)  # as the published one: torch refuses it

    conversion = convert(checkpoint, tmp_path / "out")

    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "config.json",
        "model.safetensors",
    }
    expected = network().state_dict()
    tensors = load_file(tmp_path / "out" / "model.safetensors")
    assert tensors.keys() == expected.keys()
    for name, tensor in tensors.items():
        assert torch.equal(tensor, expected[name]), name
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config == {"model_type": "lag-llama", **SIZES.to_json()}
    model = LagLlama().build(tmp_path / "out")
    assert weights_digest(model) == weights_digest(network())
    assert conversion.tensors == len(expected)
    assert conversion.parameters == sum(tensor.numel() for tensor in expected.values())
    assert {name.rsplit(".", 1)[-1] for name in conversion.strangers} >= {"Loss", "device"}


def test_a_librarys_own_dict_still_gives_the_sizes(tmp_path: Path) -> None:
    values = content()
    hyper = values["hyper_parameters"]
    hyper["model_kwargs"] = Settings(hyper["model_kwargs"])
    values["hyper_parameters"] = Settings(hyper)
    convert(write(tmp_path / "x.ckpt", values), tmp_path / "out")
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["lags_seq"] == list(SIZES.lags_seq)


def test_half_precision_and_views_become_plain_floats(tmp_path: Path) -> None:
    values = content()
    key = "model.transformer.h.0.attn.q_proj.weight"
    original = values["state_dict"][key]
    values["state_dict"][key] = original.half().T.contiguous().T  # column-major
    convert(write(tmp_path / "x.ckpt", values), tmp_path / "out")
    tensor = load_file(tmp_path / "out" / "model.safetensors")[key.removeprefix("model.")]
    assert torch.equal(tensor, original.half().float())


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
    convert(write(tmp_path / "x.ckpt", values), out)  # the tensors themselves are sound

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
        assert "outside itself" in message
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
        (b"\x80\x02cbad\x1b[2Jname\nx\n.", r"bad\\x1b\[2Jname.x, which was not run"),
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
        assert set(opened.strangers) == {".".join(name) for name in names}


@pytest.mark.parametrize("kept", [0.3, 0.9, 0.999])
def test_a_truncated_file_is_one_clear_line(kept: float, checkpoint: Path, tmp_path: Path) -> None:
    data = checkpoint.read_bytes()
    checkpoint.write_bytes(data[: int(kept * len(data))])
    assert "fetch the checkpoint again" in refused(checkpoint, tmp_path / "out")


def test_what_is_no_checkpoint_is_one_clear_line(tmp_path: Path) -> None:
    path, out = tmp_path / "x.ckpt", tmp_path / "out"
    assert "no checkpoint at" in refused(path, out)
    path.write_bytes(pickle.dumps({"state_dict": {}}))
    assert "no zip" in refused(path, out)
    path.unlink()
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("notes.txt", "a zip of something else")
    assert "no data.pkl" in refused(path, out)
    write(path, {"state_dict": network().state_dict()})  # without Lightning's prefix
    assert "holds no state_dict" in refused(path, out)


def lost(values: dict[str, Any]) -> None:
    del values["state_dict"]["model.param_proj.proj.1.bias"]


def added(values: dict[str, Any]) -> None:
    values["state_dict"]["model.second_head.weight"] = torch.ones(3)


def shorter(values: dict[str, Any]) -> None:
    values["state_dict"]["model.transformer.ln_f.scale"] = torch.ones(7)


def stretched(values: dict[str, Any]) -> None:
    # One number on the disk that claims to be a matrix.
    values["state_dict"]["model.transformer.wte.weight"] = torch.ones(1).expand(
        SIZES.width, SIZES.feature_size
    )


def integers(values: dict[str, Any]) -> None:
    values["state_dict"]["model.transformer.ln_f.scale"] = torch.ones(
        SIZES.width, dtype=torch.int64
    )


def other_scaling(values: dict[str, Any]) -> None:
    values["hyper_parameters"]["model_kwargs"]["scaling"] = "mean"


def absurd(values: dict[str, Any]) -> None:
    values["hyper_parameters"]["model_kwargs"]["n_layer"] = 10**9


def no_number(values: dict[str, Any]) -> None:
    values["hyper_parameters"]["model_kwargs"]["lags_seq"] = [0, Loss()]


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lost, "lacks the tensor 'model.param_proj.proj.1.bias'"),
        (added, "unlike a Lag-Llama of its sizes, the tensor 'model.second_head.weight'"),
        (shorter, "model.transformer.ln_f.scale should have shape (8,)"),
        (stretched, "model.transformer.wte.weight is declared larger than its 4 bytes"),
        (integers, "transformer.ln_f.scale should be floats"),
        (other_scaling, "its scaling is not 'robust'"),
        (absurd, "n_layer should be"),
        (no_number, "its lags_seq is no plain number"),
    ],
)
def test_what_is_not_this_network_is_named(
    change: Callable[[dict[str, Any]], None], match: str, tmp_path: Path
) -> None:
    values = content()
    change(values)
    assert match in refused(write(tmp_path / "x.ckpt", values), tmp_path / "out")


def test_a_compressed_entry_is_refused_before_it_is_unpacked(
    checkpoint: Path, tmp_path: Path
) -> None:
    bomb = tmp_path / "bomb.ckpt"
    with zipfile.ZipFile(checkpoint) as old, zipfile.ZipFile(bomb, "w") as new:
        for entry in old.infolist():
            new.writestr(entry.filename, old.read(entry))
        new.writestr("x/data/99", bytes(1 << 24), compress_type=zipfile.ZIP_DEFLATED)
    assert bomb.stat().st_size < 1 << 20
    assert "its entries declare" in refused(bomb, tmp_path / "out")


def test_an_entry_that_declares_more_than_the_file_holds_is_refused(
    checkpoint: Path, tmp_path: Path
) -> None:
    data = bytearray(checkpoint.read_bytes())
    place = data.rfind(b"PK\x01\x02")  # the last entry of the central directory
    data[place + 20 : place + 28] = struct.pack("<II", 1 << 30, 1 << 30)
    checkpoint.write_bytes(data)
    assert "its entries declare" in refused(checkpoint, tmp_path / "out")


def test_other_things_are_not_replaced(checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    convert(checkpoint, out)
    convert(write(tmp_path / "b.ckpt", content(seed=1)), out)  # older weights may be
    assert weights_digest(LagLlama().build(out)) == weights_digest(network(1))
    (out / "thesis.txt").write_text("do not lose me")
    with pytest.raises(UsageError, match="holds other things than weights"):
        convert(checkpoint, out)
    assert (out / "thesis.txt").exists()


def test_the_published_name_loads_once_converted(
    checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = "time-series-foundation-models/Lag-Llama"
    with pytest.raises(BackboneError) as error:
        load_backbone(name)
    message = str(error.value)
    assert "python -m client convert lag-llama lag-llama.ckpt" in message
    assert str(backbone_folder(name)) in message

    assert run(app, ["convert", "lag-llama", str(checkpoint)]) == 0

    printed = capsys.readouterr().out
    assert f"backbone = {name}" in printed
    assert "Passed over, not run: " in printed
    loaded = load_backbone(name)
    assert loaded.backbone.family == "lag-llama"
    assert loaded.digest == weights_digest(network())


def test_the_command_ends_with_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "out")
    assert run(app, ["convert", "lag-llama", str(tmp_path / "none.ckpt"), out]) == 6
    assert capsys.readouterr().err.count("\n") == 1
    assert run(app, ["convert", "lag-lama", str(tmp_path / "none.ckpt"), out]) == 2
    assert "did you mean 'lag-llama'" in capsys.readouterr().err
