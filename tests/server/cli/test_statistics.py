"""`python -m server statistics` with a replacement for Flower; an integration test has the real."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from common.console import run
from common.errors import FederationError
from server.cli import app
from server.cli import statistics as module
from server.statistics_run.output import read_statistics, write_page, write_statistics
from tests.common.data.statistics.test_reply import EXACT

CONFIG = ("--config", "server.toml")


class FlowerStub:
    """Replacement for the client of the SuperLink, whose run does `work` in its folder."""

    def __init__(self, work: Callable[[Path], None]) -> None:
        self.work = work
        self.settings: dict[str, Any] = {}

    def start_run(self, _app: Path, settings: dict[str, Any]) -> str:
        self.settings = settings
        return "77"

    def finish(self, _run: str, _on_poll: object, _patience_s: float) -> str:
        self.work(Path(self.settings["out"]))
        return "finished:completed"


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., FlowerStub]:
    def replace(work: Callable[[Path], None]) -> FlowerStub:
        flower = FlowerStub(work)
        server = SimpleNamespace(state=tmp_path / "state", app=tmp_path)
        monkeypatch.setattr(module, "read_server_config", lambda _: server)
        monkeypatch.setattr(module, "running", lambda _: {"superlink": 1})
        monkeypatch.setattr(module, "flower_of", lambda *_: flower)
        return flower

    return replace


def test_it_starts_a_run_that_asks_for_statistics_alone(
    stub: Callable[..., FlowerStub], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flower = stub(lambda out: write_statistics(out, {"micu": EXACT}, {"ccu": "no\x1b reply"}))
    out = tmp_path / "out"
    assert run(app, ["statistics", *CONFIG, "--out", str(out), "--wait", "7"]) == 0
    assert flower.settings["statistics"] is True
    assert flower.settings["federation.wait-s"] == 7.0
    text = capsys.readouterr().out
    assert "micu" in text
    assert "ccu has sent no statistics: no? reply" in text
    assert json.loads((out / "statistics.json").read_text())["sites"] == {"micu": EXACT}
    assert (out / "statistics.html").is_file()


@pytest.fixture
def earlier(tmp_path: Path) -> dict[str, bytes]:
    """The files of an earlier run in the folder."""
    write_statistics(tmp_path / "out", {"micu": EXACT}, {})
    write_page(tmp_path / "out", read_statistics(tmp_path / "out"))
    return contents(tmp_path / "out")


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_run_that_fails_keeps_the_earlier_output(
    earlier: dict[str, bytes],
    stub: Callable[..., FlowerStub],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(_: Path) -> None:
        raise FederationError("the Flower run ended as finished:failed: no site has sent any")

    stub(fail)
    assert run(app, ["statistics", *CONFIG, "--out", str(tmp_path / "out")]) == 10
    assert "no site has sent any" in capsys.readouterr().err
    assert contents(tmp_path / "out") == earlier


def test_an_earlier_output_is_not_taken_for_that_of_a_run_without_one(
    earlier: dict[str, bytes],
    stub: Callable[..., FlowerStub],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    stub(lambda _: None)
    assert run(app, ["statistics", *CONFIG, "--out", str(tmp_path / "out")]) == 12
    assert "run 77 has not written" in capsys.readouterr().err
    assert contents(tmp_path / "out") == earlier


@pytest.mark.parametrize("text", ["{}", "nothing", ""])
def test_what_the_run_wrote_is_validated_again(
    stub: Callable[..., FlowerStub], tmp_path: Path, text: str
) -> None:
    def forge(out: Path) -> None:
        out.mkdir()
        (out / "statistics.json").write_text(text)

    stub(forge)
    assert run(app, ["statistics", *CONFIG, "--out", str(tmp_path / "out")]) == 12


def test_a_folder_of_other_files_is_refused_before_a_site_is_asked(
    stub: Callable[..., FlowerStub], tmp_path: Path
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").touch()
    flower = stub(lambda _: None)
    assert run(app, ["statistics", *CONFIG, "--out", str(tmp_path / "out")]) == 12
    assert not flower.settings
