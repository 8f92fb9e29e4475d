from __future__ import annotations

import pytest

from common.backbones.catalog import CATALOG
from common.console import run
from simulation.cli import app


def test_the_list_names_every_backbone_and_where_its_weights_are(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(app, ["backbones"]) == 0
    lines = capsys.readouterr().out.splitlines()
    for name in CATALOG:
        assert any(name in line for line in lines)
    (nano,) = (line.split() for line in lines if " chronos-bolt-nano " in line)
    assert nano == ["chronos-bolt", "chronos-bolt-nano", "repository", "-", "0.811", "M"]
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


def test_a_trial_of_what_is_not_there_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(app, ["backbones", "--check", "chronos-bolt-nanno"]) != 0
    error = capsys.readouterr().err
    assert "did you mean 'chronos-bolt-nano'" in error
    assert error.count("\n") == 1
