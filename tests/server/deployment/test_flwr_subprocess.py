from __future__ import annotations

import json
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from common.errors import FederationError
from server.deployment import flwr_subprocess as module
from server.deployment.flwr_subprocess import FINISHED, Flower, connect, last_error, pairs
from tests.integration.setup.deployed import copy_app

GONE = "connection refused"


class Command:
    """Replacement for `flwr`; the integration tests call the real command."""

    def __init__(self) -> None:
        self.outputs: list[str] = []
        self.calls: list[list[str]] = []

    def __call__(self, command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        self.calls.append(command[1:])
        return subprocess.CompletedProcess(command, 0, stdout=self.outputs.pop(0))


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> Command:
    fake = Command()
    monkeypatch.setattr(subprocess, "run", fake)
    return fake


@pytest.fixture
def flower(tmp_path: Path) -> Flower:
    return connect(tmp_path / "flower", "127.0.0.1:8000", tmp_path / "ca.crt")


@pytest.fixture
def statuses(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Statuses of a run, one a query; one that is no status is an error."""
    left: list[str] = []

    def status(*_: Any) -> str:
        answer = left.pop(0)
        if answer == GONE:
            raise FederationError(answer)
        return answer

    monkeypatch.setattr(module, "_POLL_S", 0.0)
    monkeypatch.setattr(Flower, "status", status)
    return left


def test_the_json_is_found_behind_other_lines(
    flower: Flower, command: Command, tmp_path: Path
) -> None:
    command.outputs = ['Loading { ... }\n{"success": true, "run-id": "7"}\n']
    assert flower.start_run(tmp_path, {}) == "7"


def test_a_run_is_followed_to_its_true_end(flower: Flower, statuses: list[str]) -> None:
    statuses += ["pending", "running", FINISHED]
    polls: list[int] = []
    assert flower.finish("7", lambda: polls.append(1)) == FINISHED
    assert len(polls) == 3


def test_a_run_that_failed_is_an_error_with_its_reason(
    flower: Flower, command: Command, statuses: list[str]
) -> None:
    statuses += ["finished:failed"]
    command.outputs = ["INFO: a\nERROR: ValueError: too short\nINFO: b"]
    with pytest.raises(FederationError, match="ended as finished:failed: ERROR: ValueError"):
        flower.finish("7")


def test_a_superlink_that_comes_back_in_time_is_waited_for(
    flower: Flower, statuses: list[str]
) -> None:
    statuses += ["running", GONE, GONE, FINISHED]
    assert flower.finish("7", patience_s=60.0) == FINISHED
    statuses += ["running", GONE]
    with pytest.raises(FederationError, match=GONE):
        flower.finish("7")


def test_patience_begins_when_the_superlink_is_gone(
    flower: Flower, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]

    def sleep(_seconds: float) -> None:
        clock[0] += 2.0

    def status(*_: Any) -> str:
        if clock[0] >= 50.0:
            raise FederationError("gone")
        return "running"

    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: clock[0], sleep=sleep))
    monkeypatch.setattr(Flower, "status", status)
    with pytest.raises(FederationError, match="gone"):
        flower.wait("7", patience_s=20.0)
    assert 70.0 <= clock[0] <= 80.0


def test_what_flower_refuses_is_said_with_its_reason(
    flower: Flower, command: Command, tmp_path: Path
) -> None:
    command.outputs = [json.dumps({"success": False, "error-message": "Error: no such key"})]
    with pytest.raises(FederationError, match="did not start the run: Error: no such key"):
        flower.start_run(tmp_path, {"rounds": 3, "out": 'a "b"', "resume": True})
    assert command.calls[0][-1] == "json"
    assert 'rounds=3 out="a \\"b\\"" resume=true' in command.calls[0]


def test_settings_are_written_as_toml() -> None:
    assert pairs({"a": 1, "b": "x y", "c": False, "d": 0.5}) == 'a=1 b="x y" c=false d=0.5'


def test_the_line_that_tells_most() -> None:
    assert last_error("╭──╮\n│ Error: why │\n╰──╯\nbye") == "Error: why"
    assert last_error("one\ntwo\n") == "two"
    assert last_error("") == "no output"


def test_the_connection_names_the_authority(flower: Flower, tmp_path: Path) -> None:
    text = (flower.folder / "config.toml").read_text()
    assert f'root-certificates = "{tmp_path / "ca.crt"}"' in text
    assert "insecure" not in text
    assert (
        "insecure = true" in (connect(tmp_path, "127.0.0.1:1").folder / "config.toml").read_text()
    )


def test_a_superlink_that_hangs_is_not_waited_for(
    flower: Flower, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hang(command: list[str], *, timeout: float, **_: Any) -> None:
        raise subprocess.TimeoutExpired(command, timeout)

    monkeypatch.setattr(subprocess, "run", hang)
    with pytest.raises(FederationError, match="did not respond to `flwr stop` within 120 s"):
        flower.stop_run("7")


def test_a_credential_goes_by_the_environment_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FEDVITALS_OPERATOR", str(tmp_path / "operator"))
    seen: list[tuple[list[str], dict[str, str]]] = []

    def run(command: list[str], **settings: Any) -> subprocess.CompletedProcess[str]:
        seen.append((command, settings["env"]))
        return subprocess.CompletedProcess(command, 0, stdout='{"success": true}')

    monkeypatch.setattr(subprocess, "run", run)
    asked = connect(tmp_path / "flower", "127.0.0.1:8000", tmp_path / "ca.crt", "a.meyer.secret")
    asked.stop_run("7")
    ((command, environment),) = seen
    assert "secret" not in " ".join(command)
    assert environment["FEDVITALS_CREDENTIAL"] == "a.meyer.secret"
    # The services and their children get neither the credential nor its path.
    assert not {"FEDVITALS_CREDENTIAL", "FEDVITALS_OPERATOR"} & set(asked.environment)
    assert "secret" not in repr(asked)


def test_the_bundle_is_flowers_own(flower: Flower, app_bundle: bytes, tmp_path: Path) -> None:
    """Whatever else is beside the files that are shipped."""
    app = tmp_path / "app"
    copy_app(app)
    (app / ".venv").mkdir()
    (app / ".venv" / "module.py").write_text("")
    (app / "client" / "notes.txt").write_text("")
    (tmp_path / "out").mkdir()
    assert flower.build(app, tmp_path / "out").read_bytes() == app_bundle


def test_a_folder_that_is_no_app_is_flowers_to_refuse(flower: Flower, tmp_path: Path) -> None:
    (tmp_path / "app").mkdir()
    with pytest.raises(FederationError, match=r"no bundle: Failed to load .* or invalid\.$"):
        flower.build(tmp_path / "app", tmp_path)
