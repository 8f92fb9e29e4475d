"""`python -m server run` with a replacement for Flower; the integration tests run the real one."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from common.config.run_config import RunConfig
from common.console import run
from common.errors import FederationError
from server.cli import app
from server.cli import run as module
from server.runs.follow import STARTS, Start
from server.runs.run_folder import CHECKPOINT_FILE, RunFolder

NEW = "77"
CONFIG = ("--config", "server.toml")


class FlowerStub:
    """Replacement for the client of the SuperLink, whose run does `work` in its folder."""

    def __init__(self, work: Callable[[Path], None] = lambda _: None) -> None:
        self.work = work
        self.started: list[dict[str, Any]] = []

    def start_run(self, _app: Path, settings: dict[str, Any]) -> str:
        """Record the settings."""
        self.started.append(settings)
        return NEW

    def status(self, number: str) -> str:
        """Know one run."""
        if number != NEW:
            raise FederationError(f"the SuperLink knows no run {number}")
        return "running"

    def finish(self, _run: str, on_poll: Callable[[], object], _patience_s: float) -> str:
        """Do the work, if this stub has started the run, and complete."""
        on_poll()
        if self.started:
            self.work(Path(self.started.pop()["out"]))
        on_poll()
        return "finished:completed"


def line(number: int) -> dict[str, Any]:
    return {
        "round": number,
        "sites": {"ccu": {}, "micu": {}},
        "validated_round": number - 1,
        "validation_wql": None,
        "best_round": 0,
    }


def write_run(path: Path, *, settings: dict[str, Any] | None = None, flower_run: str = "6") -> None:
    folder = RunFolder(path)
    config = RunConfig.parse({"rounds": 3, **(settings or {})})
    start = Start(flower_run, 0, 0)._asdict()
    folder.write_config({"settings": config.flat(), STARTS: [start]})
    for number in (1, 2, 3, 4):
        folder.append_round(line(number))
    folder.close()
    checkpoint = path / CHECKPOINT_FILE
    checkpoint.parent.mkdir()
    checkpoint.touch()


@pytest.fixture
def flower(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FlowerStub:
    stub = FlowerStub(lambda out: write_run(out, flower_run=NEW))
    server = SimpleNamespace(state=tmp_path / "state", app=tmp_path)
    (server.state / "sites").mkdir(parents=True)
    for site in ("ccu", "micu"):
        (server.state / "sites" / f"{site}.pub").touch()
    monkeypatch.setattr(module, "read_server_config", lambda _: server)
    monkeypatch.setattr(module, "running", lambda _: {"superlink": 1})
    monkeypatch.setattr(module, "flower_of", lambda *_: stub)
    monkeypatch.chdir(tmp_path)
    return stub


def test_a_run_prints_its_rounds_and_its_folder(
    flower: FlowerStub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(app, ["run", *CONFIG, "-c", "out=new", "-c", "rounds=3"]) == 0
    rounds = [f"round {number} of 3: 2 of 2 sites" for number in (1, 2, 3)]
    assert capsys.readouterr().out.splitlines()[1:] == [
        *rounds,
        "last validation: 2 of 2 sites",
        f"run {NEW} finished:completed; written in {tmp_path / 'new'}",
    ]
    assert run(app, ["run", *CONFIG, "--attach", NEW]) == 0
    out = capsys.readouterr().out
    assert rounds[2] in out
    assert f"written in {tmp_path / 'new'}" in out, "the folder that the run was started with"


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["-c", "out=old"], 10, "already holds a run; .*python -m server run -c resume=true"),
        (
            ["-c", "out=old", "-c", "resume=true", "-c", "rounds=5"],
            2,
            "rounds is 5, the run began with 3",
        ),
        (
            ["-c", "out=none", "-c", "resume=true"],
            10,
            "none holds no run to resume; start one there without -c resume=true",
        ),
        (["--attach", "99"], 10, "the SuperLink knows no run 99"),
        (["--attach", NEW, "-c", "rounds=2"], 2, "--attach follows a run with its own settings"),
        (["-c", "federation.weights=ccu=1,micuu=2"], 2, "'micuu'; did you mean 'micu'"),
    ],
)
def test_what_cannot_be_shown_or_started_is_one_line(
    flower: FlowerStub,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    code: int,
    message: str,
) -> None:
    write_run(tmp_path / "old")
    assert run(app, ["run", *CONFIG, *options]) == code
    captured = capsys.readouterr()
    assert captured.out == "", "no line of the older run"
    assert len(captured.err.splitlines()) == 1
    assert re.search(message, captured.err)
    assert flower.started == []


def test_a_run_of_another_command_has_no_known_folder(
    flower: FlowerStub, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(app, ["run", *CONFIG, "--attach", NEW]) == 0
    assert "its run folder is not known here" in capsys.readouterr().out
