"""Every way in which a user may name a trained adapter."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from common.adapter.adapter import Adapter
from common.adapter.peft_io import save_peft_folder
from common.adapter.trained_adapter import AdapterPlace, find_adapter, read_adapter
from common.errors import AdapterError, UsageError


def adapter(number: float = 1.0) -> Adapter:
    tensors = {
        "base_model.model.a.lora_A.weight": np.full((1, 2), number, np.float32),
        "base_model.model.a.lora_B.weight": np.full((2, 1), number, np.float32),
    }
    return Adapter(
        tensors, rank=1, alpha=1.0, target_modules="a", backbone="nano", backbone_digest="a" * 64
    )


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    save_peft_folder(adapter(), folder / "adapter")
    (folder / "config.json").write_text(json.dumps({"settings": {"backbone": "/weights/nano"}}))
    return folder


@pytest.mark.parametrize(
    "named",
    [
        "adapter",
        "adapter/adapter_model.safetensors",
        "adapter/adapter_config.json",
        "adapter/fedvitals.json",
    ],
)
def test_a_peft_folder_and_each_file_in_it_name_the_same_adapter(run: Path, named: str) -> None:
    place = find_adapter(run / named)
    assert place == AdapterPlace(run / "adapter")
    assert read_adapter(place) == adapter()


def test_a_run_folder_names_its_release_and_its_backbone(run: Path) -> None:
    assert find_adapter(run) == AdapterPlace(run / "adapter", run, "/weights/nano")
    (run / "config.json").write_text("[")
    assert find_adapter(run) == AdapterPlace(run / "adapter", run)


def test_a_folder_that_personalise_writes_names_its_adapter(run: Path) -> None:
    (run / "config.json").unlink()
    assert find_adapter(run) == AdapterPlace(run / "adapter")


@pytest.mark.parametrize(
    ("named", "message"),
    [
        ("absent", "there is no folder or file .*; give a run folder, its adapter/"),
        (".", "is neither a run folder nor a PEFT folder; give a run folder"),
        ("alone/adapter_model.safetensors", "has no adapter_config.json beside it"),
        ("run/config.json", "is no adapter; give a run folder"),
        ("unfinished", "has released no adapter: it is still running, or it failed"),
    ],
)
def test_what_is_no_adapter_is_refused_in_one_line(
    run: Path, tmp_path: Path, named: str, message: str
) -> None:
    for folder, file in (("alone", "adapter_model.safetensors"), ("unfinished", "config.json")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / file).write_text("{}")
    with pytest.raises(UsageError, match=message):
        find_adapter(tmp_path / named)


def test_an_adapter_without_its_origin_or_with_nan_is_refused(run: Path, tmp_path: Path) -> None:
    save_peft_folder(adapter(np.nan), tmp_path / "nan")
    with pytest.raises(AdapterError, match=r"holds NaN or infinity in base_model\.model\.a"):
        read_adapter(find_adapter(tmp_path / "nan"))
    (run / "adapter" / "fedvitals.json").unlink()
    with pytest.raises(UsageError, match="name them with --backbone"):
        read_adapter(find_adapter(run))
