from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from peft import PeftModel

from client.cli import app
from common.adapter.peft_io import load_peft_folder, save_peft_folder
from common.backbones.base import weights_digest
from common.backbones.loading import load_backbone
from common.backbones.lora import adapted_backbone, lora_parameters
from common.config.run_config import LoraConfig
from common.console import run
from common.data.site_table import SiteTable, SiteTableInfo, make_site_table, write_site_table
from common.data.vitals import VITALS
from common.data.windows import Windows, make_windows

SETTINGS: dict[str, Any] = {
    "windows.context": 24,
    "windows.min-context": 4,
    "lora.rank": 2,
    "lora.alpha": 4.0,
    "train.device": "cpu",
    "train.batch": 32,
    "train.learning-rate": 0.01,
    "step_minutes": 60,
}


@pytest.fixture
def release(tiny_bolt: Path, tmp_path: Path) -> Path:
    """A released adapter that forecasts as the frozen backbone does."""
    lora = LoraConfig(rank=2, alpha=4.0)
    adapted = adapted_backbone(str(tiny_bolt), lora, torch.device("cpu"))
    settings = {**SETTINGS, "backbone": str(tiny_bolt)}
    save_peft_folder(adapted.fresh_adapter(0), tmp_path / "release", settings=settings)
    return tmp_path / "release"


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A site whose patients all decline steadily, which a random backbone has to learn."""
    rng = np.random.default_rng(1)
    rows = pd.DataFrame({"patient_id": np.repeat(np.arange(60), 30)})
    rows["stay_id"] = rows["patient_id"]
    rows["step"] = np.tile(np.arange(30), 60)
    for vital in VITALS:
        slope = (15 - rows["step"]) * vital.scale_floor / 5
        values = vital.clinical_offset + slope + rng.normal(0, vital.scale_floor / 20, len(rows))
        rows[vital.name] = np.minimum(values, 100) if vital.name == "spo2" else values
    info = SiteTableInfo("st-mary", "made", "all", 60)
    folder = tmp_path / "site"
    write_site_table(make_site_table(rows, info), folder / "sites" / "st-mary.parquet")
    return folder


def personalise(release: Path, site: Path, out: Path, *options: str) -> int:
    command = ["personalise", "--adapter", str(release), "--data", str(site), "--out", str(out)]
    return run(app, [*command, *options])


def test_a_gain_on_validation_patients_is_kept(
    release: Path, site: Path, tiny_bolt: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert personalise(release, site, out, "--passes", "3") == 0, capsys.readouterr().err
    assert "Kept: the personal adapter" in capsys.readouterr().out
    record = json.loads((out / "comparison.json").read_text())
    assert record["kept"] == "personal"
    wql = record["validation_wql"]
    assert len(wql) == 4
    assert wql[record["pass"]] == min(wql) < wql[0]
    test = record["test"]
    assert test["personal"]["mean"]["wql"] < test["global"]["mean"]["wql"]
    assert test["difference"]["mean"]["wql"]["relative"]["estimate"] < 0
    adapter = load_peft_folder(out / "adapter")
    before = load_peft_folder(release)
    assert any(
        not np.array_equal(tensor, before.tensors[name]) for name, tensor in adapter.tensors.items()
    )
    # The base is what it was, and the folder is one that PEFT itself loads.
    loaded = load_backbone(str(tiny_bolt))
    assert weights_digest(loaded.model) == adapter.backbone_digest
    PeftModel.from_pretrained(loaded.model, str(out / "adapter"))
    assert "must not leave" in (out / "adapter" / "README.md").read_text()


def test_a_run_folder_and_a_file_name_the_release_too(
    release: Path, site: Path, tiny_bolt: Path, tmp_path: Path
) -> None:
    run_folder = tmp_path / "run"
    shutil.copytree(release, run_folder / "adapter")
    settings = {"settings": {"backbone": str(tiny_bolt)}}
    (run_folder / "config.json").write_text(json.dumps(settings))
    named = (run_folder, run_folder / "adapter" / "adapter_model.safetensors")
    for number, path in enumerate(named):
        out = tmp_path / str(number)
        assert personalise(path, site, out, "--passes", "1") == 0
    one, other = (json.loads((tmp_path / out / "comparison.json").read_text()) for out in "01")
    assert one == other


def test_a_private_release_is_trained_as_any_other(
    release: Path, site: Path, tiny_bolt: Path, tmp_path: Path
) -> None:
    """A private run's rate is for SGD on noisy gradients, a hundred times what AdamW bears."""
    private = {"privacy.epsilon": 8.0, "aggregation.rule": "ffa", "lora.train": "b"}
    settings = {**SETTINGS, **private, "train.steps": 1, "backbone": str(tiny_bolt)}
    save_peft_folder(load_peft_folder(release), tmp_path / "private", settings=settings)
    for folder in ("release", "private"):
        assert personalise(tmp_path / folder, site, tmp_path / f"of-{folder}", "--passes", "1") == 0
    records = [
        json.loads((tmp_path / f"of-{folder}" / "comparison.json").read_text())
        for folder in ("release", "private")
    ]
    assert records[0] == records[1]
    assert records[0]["chosen_on"]["split"] == "validation"
    assert (tmp_path / "of-private").stat().st_mode & 0o077 == 0


def test_the_test_patients_select_nothing(
    release: Path, site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With other test patients the same adapter is kept."""
    assert personalise(release, site, tmp_path / "a", "--passes", "2") == 0

    def mirrored(table: SiteTable, split: str, *rest: Any) -> Windows:
        windows = make_windows(table, split, *rest)
        return replace(windows, target=-windows.target) if split == "test" else windows

    monkeypatch.setattr("client.app.personalization.make_windows", mirrored)
    assert personalise(release, site, tmp_path / "b", "--passes", "2") == 0
    one, other = (json.loads((tmp_path / out / "comparison.json").read_text()) for out in "ab")
    assert one["test"] != other["test"]
    assert {**one, "test": None} == {**other, "test": None}
    assert load_peft_folder(tmp_path / "a/adapter") == load_peft_folder(tmp_path / "b/adapter")


def test_a_loss_on_validation_patients_is_not_kept(
    release: Path, site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert personalise(release, site, tmp_path / "good", "--passes", "3") == 0
    release, out = tmp_path / "good" / "adapter", tmp_path / "out"

    def unlearn(model: torch.nn.Module, *_: Any, **__: Any) -> None:
        with torch.no_grad():
            for name, parameter in lora_parameters(model):
                if ".lora_B." in name:
                    parameter.zero_()

    monkeypatch.setattr("client.app.personalization.train_adapter", unlearn)
    assert personalise(release, site, out, "--passes", "1") == 0
    record = json.loads((out / "comparison.json").read_text())
    assert record["kept"] == "global"
    assert record["validation_wql"][1] > record["validation_wql"][0]
    assert load_peft_folder(out / "adapter") == load_peft_folder(release)


def test_the_same_command_gives_the_same_bytes(release: Path, site: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        assert personalise(release, site, tmp_path / name, "--passes", "1") == 0
    for file in ("comparison.json", "adapter/adapter_model.safetensors"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--passes", "0"], 2, "--passes must be at least 1"),
        (["-c", "lora.rank=4"], 2, "takes settings train.* and seed, and --passes"),
        (["-c", "train.steps=4"], 2, "got train.steps"),
        (["--adapter", "/nowhere"], 2, "there is no folder or file /nowhere"),
        (["--data", "/nowhere"], 4, "/nowhere"),
        (["--backbone", "chronos-bolt-nano"], 7, "the release sent an adapter for backbone"),
    ],
)
def test_mistakes_end_with_one_line(
    release: Path,
    site: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    code: int,
    message: str,
) -> None:
    assert personalise(release, site, tmp_path / "out", *options) == code
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_table_of_other_steps_or_too_few_patients_is_refused(
    release: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = pd.DataFrame({"patient_id": 1, "stay_id": 1, "step": np.arange(30)})
    rows["heart_rate"] = 80.0
    for minutes, code, message in ((30, 2, "steps of 60 minutes"), (60, 9, "window to")):
        path = tmp_path / f"{minutes}.parquet"
        write_site_table(make_site_table(rows, SiteTableInfo("a", "made", "all", minutes)), path)
        assert personalise(release, path, tmp_path / "out") == code
        assert message in capsys.readouterr().err


def test_a_folder_in_use_is_left_alone(release: Path, site: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("years of work")
    assert personalise(release, site, tmp_path / "out") == 2
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["thesis.tex"]
