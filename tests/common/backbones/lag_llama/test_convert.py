"""The published checkpoint becomes a folder of this project's, or is refused in one line."""

from __future__ import annotations

import json
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from client.cli import app
from common.backbones.base import weights_digest
from common.backbones.lag_llama.convert import convert_lag_llama
from common.backbones.lag_llama.lag_llama import LagLlama
from common.backbones.loading import load_backbone
from common.console import run
from common.errors import BackboneError, UsageError
from common.files.paths import backbone_folder
from tests.common.backbones.torch_pickle.checkpoints import (
    SIZES,
    Loss,
    Settings,
    content,
    network,
    refused,
    write,
)


def test_a_lightning_checkpoint_is_converted_loads_and_is_equal(
    checkpoint: Path, tmp_path: Path
) -> None:
    with pytest.raises(pickle.UnpicklingError):
        torch.load(checkpoint, weights_only=True)  # as the published one: torch refuses it

    conversion = convert_lag_llama(checkpoint, tmp_path / "out")

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
    assert {name.rsplit(".", 1)[-1] for name in conversion.unknown_names} >= {"Loss", "device"}


def test_a_librarys_own_dict_still_gives_the_sizes(tmp_path: Path) -> None:
    values = content()
    hyper = values["hyper_parameters"]
    hyper["model_kwargs"] = Settings(hyper["model_kwargs"])
    values["hyper_parameters"] = Settings(hyper)
    convert_lag_llama(write(tmp_path / "x.ckpt", values), tmp_path / "out")
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["lags_seq"] == list(SIZES.lags_seq)


def test_half_precision_and_views_become_plain_floats(tmp_path: Path) -> None:
    values = content()
    key = "model.transformer.h.0.attn.q_proj.weight"
    original = values["state_dict"][key]
    values["state_dict"][key] = original.half().T.contiguous().T  # column-major
    convert_lag_llama(write(tmp_path / "x.ckpt", values), tmp_path / "out")
    tensor = load_file(tmp_path / "out" / "model.safetensors")[key.removeprefix("model.")]
    assert torch.equal(tensor, original.half().float())


@pytest.mark.parametrize("kept", [0.3, 0.9, 0.999])
def test_a_truncated_file_is_one_clear_line(kept: float, checkpoint: Path, tmp_path: Path) -> None:
    data = checkpoint.read_bytes()
    checkpoint.write_bytes(data[: int(kept * len(data))])
    assert "fetch the checkpoint again" in refused(checkpoint, tmp_path / "out")


def test_what_is_no_checkpoint_is_one_clear_line(tmp_path: Path) -> None:
    path, out = tmp_path / "x.ckpt", tmp_path / "out"
    assert "no checkpoint at" in refused(path, out)
    path.write_bytes(pickle.dumps({"state_dict": {}}))
    assert "not a complete zip" in refused(path, out)
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


def vast(values: dict[str, Any]) -> None:
    values["hyper_parameters"]["model_kwargs"].update(n_head=1 << 16, n_embd_per_head=1 << 16)


def endless(values: dict[str, Any]) -> None:
    values["hyper_parameters"]["model_kwargs"]["lags_seq"] = list(range(513))


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
        (vast, "its sizes are impossible"),
        (endless, "its lags_seq has 513 parts"),
        (no_number, "its lags_seq is not a plain number"),
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
    convert_lag_llama(checkpoint, out)
    convert_lag_llama(write(tmp_path / "b.ckpt", content(seed=1)), out)  # older weights may be
    assert weights_digest(LagLlama().build(out)) == weights_digest(network(1))
    (out / "thesis.txt").write_text("do not lose me")
    with pytest.raises(UsageError, match="holds other files than weights"):
        convert_lag_llama(checkpoint, out)
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
    assert "Skipped, not run: " in printed
    loaded = load_backbone(name)
    assert loaded.backbone.family == "lag-llama"
    assert loaded.digest == weights_digest(network())


def test_the_command_ends_with_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "out")
    assert run(app, ["convert", "lag-llama", str(tmp_path / "none.ckpt"), out]) == 6
    assert capsys.readouterr().err.count("\n") == 1
    assert run(app, ["convert", "lag-lama", str(tmp_path / "none.ckpt"), out]) == 2
    assert "did you mean 'lag-llama'" in capsys.readouterr().err
