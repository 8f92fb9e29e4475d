from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from common.backbones.catalog import CATALOG, FAMILIES, packaged_backbones
from common.backbones.lora import adapted_backbone
from common.config.run_config import LoraConfig
from common.console import run
from simulation.backbone_smoke_test import private_refusal
from simulation.cli import app
from simulation.made_up_windows import made_up_windows


def test_the_list_names_every_backbone_and_where_its_weights_are(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(app, ["backbones"]) == 0
    lines = capsys.readouterr().out.splitlines()
    for name in CATALOG:
        assert any(name in line for line in lines)
    (nano,) = (line.split() for line in lines if " chronos-bolt-nano " in line)
    assert nano == ["chronos-bolt", "chronos-bolt-nano", "repository", "-", "yes", "0.811", "M"]
    (large,) = (line for line in lines if " amazon/chronos-t5-large " in line)
    assert "to be downloaded" in large
    (pickled,) = (line for line in lines if "Lag-Llama" in line)
    assert "to be converted" in pickled


def test_a_missing_extra_is_marked(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("common.backbones.catalog.find_spec", lambda _: None)
    assert run(app, ["backbones"]) == 0
    assert "moirai (missing)" in capsys.readouterr().out


def test_a_trial_tells_digest_and_times(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(app, ["backbones", "--check", "chronos-bolt-nano"]) == 0
    text = capsys.readouterr().out
    digest = next(line.split()[-1] for line in text.splitlines() if "digest" in line)
    assert len(bytes.fromhex(digest)) == 32
    assert "811,120" in text
    assert text.count("ms for 64 windows") == 2
    assert "quantile" in text
    assert "a step with differential privacy works" in text


def test_the_list_says_of_each_family_what_it_declares(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    other = replace(FAMILIES["chronos-t5"], private=False)
    monkeypatch.setitem(FAMILIES, "chronos-t5", other)
    assert run(app, ["backbones"]) == 0
    for line in capsys.readouterr().out.splitlines():
        for name, entry in CATALOG.items():
            if f" {name} " in line:
                assert (" no " in line) == (entry.family == "chronos-t5")


@pytest.mark.slow
@pytest.mark.parametrize("name", packaged_backbones())
def test_a_private_step_works_where_the_family_declares_it(name: str) -> None:
    adapted = adapted_backbone(name, LoraConfig(rank=1), torch.device("cpu"))
    refusal = private_refusal(adapted, made_up_windows(2))
    assert (not refusal) == FAMILIES[CATALOG[name].family].private


def test_a_trial_of_what_is_not_there_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(app, ["backbones", "--check", "chronos-bolt-nanno"]) != 0
    error = capsys.readouterr().err
    assert "did you mean 'chronos-bolt-nano'" in error
    assert error.count("\n") == 1
