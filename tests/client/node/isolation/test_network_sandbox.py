"""A bundle that is tried before it is trusted: no network, and not the node's key."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from client.cli import app as commands
from client.node.isolation import landlock, network_sandbox
from common.console import run
from common.errors import UsageError
from tests.client.node.hospital import Hospital, make_hospital, other_bundle
from tests.samples.federation import tiny_run

HOSTILE = """
import socket
from pathlib import Path
said = []
try:
    said.append(f"key {{Path({key!r}).read_text()!r}}")
except OSError:
    said.append("no key")
try:
    with socket.create_connection(("127.0.0.1", {port}), 2) as one:
        one.sendall(b"patients")
    said.append("sent")
except OSError:
    said.append("no way")
Path({told!r}).write_text(", ".join(said))
"""
"""Tries to take the key out through a port of this machine, and writes down how that went."""


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as one:
        one.setblocking(False)
        yield one


@pytest.fixture
def hospital(
    tmp_path: Path, tiny_bolt: Path, tiny_cohort: Path, listener: socket.socket
) -> Hospital:
    """A hospital that has a key and approved a hostile bundle."""
    config = tiny_run(tiny_bolt, tiny_cohort, tmp_path / "run")
    made = make_hospital(tmp_path, tiny_cohort / "sites" / "micu.parquet", config)
    made.config.node.key.parent.mkdir()
    made.config.node.key.write_text("the key")
    # In a folder of its own: beside the key's the app makes no file.
    (tmp_path / "app").mkdir()
    told, port = str(tmp_path / "app" / "told"), listener.getsockname()[1]
    first = HOSTILE.format(key=str(made.config.node.key), port=port, told=told)
    made.approve(other_bundle(tmp_path / "other", first=first))
    return made


@pytest.fixture
def namespaces(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Skip where this machine forbids them; as root the tests still run, being no bundle."""
    command = [
        sys.executable,
        "-m",
        "client.node.isolation.network_sandbox",
        str(tmp_path / "none"),
        "--help",
    ]
    code = subprocess.run(command, capture_output=True, check=False).returncode
    if code == network_sandbox.FAILED:
        pytest.skip("this machine allows no network namespace")
    assert code == 0
    monkeypatch.setattr(os, "geteuid", lambda: 1000)


def page(hospital: Hospital) -> str:
    text = (hospital.folder / "out/what-would-leave.md").read_text()
    return " ".join(text.split())


@pytest.mark.slow
@pytest.mark.usefixtures("namespaces")
def test_a_hostile_bundle_that_is_shut_in_takes_nothing_out(
    hospital: Hospital, listener: socket.socket
) -> None:
    assert run(commands, hospital.shut_in()) == 20  # its answers are none
    assert (hospital.folder / "app" / "told").read_text() == "key '', no way"
    with pytest.raises(BlockingIOError):
        listener.accept()
    assert "The app was sandboxed: its process had no network except a loopback" in page(hospital)
    assert "It could not read the node's key" in page(hospital)
    assert hospital.record["shut-in"]


@pytest.mark.slow
def test_what_an_unconfined_bundle_could_do_is_said(
    hospital: Hospital, listener: socket.socket
) -> None:
    assert hospital.call() == 20
    key = "no key" if landlock.landlock_version() else "key 'the key'"
    assert (hospital.folder / "app" / "told").read_text() == f"{key}, sent"
    listener.accept()[0].close()
    assert "The app was NOT sandboxed" in page(hospital)
    assert "what it may have sent is not known here" in page(hospital)
    assert "It could have read the node's key" in page(hospital)


def test_nothing_runs_as_root(
    hospital: Hospital, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(network_sandbox, "in_network_sandbox", lambda: False)
    assert run(commands, hospital.shut_in()) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "would run as root" in error
    assert not (hospital.folder / "app" / "told").exists()


def test_nothing_runs_where_there_are_no_namespaces(
    hospital: Hospital, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden(command: list[str]) -> int:
        assert command[:4] == [sys.executable, "-P", "-m", "client.node.isolation.network_sandbox"]
        return network_sandbox.FAILED

    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(network_sandbox, "run_child", forbidden)
    with pytest.raises(UsageError, match=r"allows no network namespace; .* --unconfined"):
        network_sandbox.run_in_sandbox(hospital.shut_in(), hospital.config.node.key)
    assert not (hospital.folder / "app" / "told").exists()


def test_a_system_without_these_calls_runs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(_key: Path) -> None:
        raise PermissionError

    monkeypatch.setattr(network_sandbox, "_enter", forbidden)
    with pytest.raises(SystemExit) as stop:
        network_sandbox._main(Path("node.key"), ["node"])
    assert stop.value.code == network_sandbox.FAILED


@pytest.mark.usefixtures("namespaces")
def test_the_rights_over_the_namespace_are_given_up(tmp_path: Path) -> None:
    key = tmp_path / "node.key"
    key.write_text("the key")
    program = (
        "import ctypes, sys; from pathlib import Path\n"
        "from client.node.isolation import network_sandbox\n"
        "key = Path(sys.argv[1]); print(network_sandbox.can_read(key))\n"
        "network_sandbox._enter(key)\n"
        "print(network_sandbox.in_network_sandbox(), network_sandbox.can_read(key))\n"
        "import subprocess\n"
        "print(subprocess.run(['cat', '/proc/self/status'], capture_output=True).stdout.decode())"
    )
    command = [sys.executable, "-c", program, str(key)]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("\n")
    assert said[:2] == ["True", "True False"]
    rights = dict(line.split(":\t") for line in said if line.startswith(("Cap", "NoNewPrivs")))
    assert rights.pop("NoNewPrivs") == "1"
    assert len(rights) == 5
    assert {int(value, 16) for value in rights.values()} == {0}
    assert key.read_text() == "the key"
