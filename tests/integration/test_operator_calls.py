"""Operators at a real SuperLink: who has a credential, who had one, and who has none."""

from __future__ import annotations

import json
import os
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from server.deployment.control_log import control_log, read_log
from tests.integration.setup.deployed import BIN, Coordinator, make_coordinator
from tests.integration.setup.processes import call

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def coordinator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Coordinator]:
    coordinator = make_coordinator(tmp_path_factory.mktemp("operators"))
    # A gRPC control API beside the guarded one, which Flower would open.
    coordinator.environment["FLWR_INTERNAL_GRPC_CONTROL_API"] = "1"
    coordinator.call("start", "--background")
    try:
        yield coordinator
    finally:
        coordinator.call("stop")


def own(coordinator: Coordinator) -> Path:
    """The credential of the user who started the services."""
    return coordinator.folder / "home" / "operator"


def start_run(coordinator: Coordinator, credential: str = "") -> int:
    """Ask the SuperLink itself to start a run of nothing; return the status of the answer."""
    authority = str(coordinator.folder / "keys" / "private" / "ca.crt")
    headers = {"authorization": f"Bearer {credential}"} if credential else {}
    url = f"https://{coordinator.address}/v1/control/start-run"
    context = ssl.create_default_context(cafile=authority)
    return httpx.post(url, headers=headers, content=b"", verify=context).status_code


def test_the_first_start_makes_its_user_an_operator(coordinator: Coordinator) -> None:
    file = own(coordinator)
    assert file.stat().st_mode & 0o777 == 0o600
    hashes = coordinator.state / "operators.json"
    assert hashes.stat().st_mode & 0o777 == 0o600
    credential = file.read_text().strip()
    state = [path for path in coordinator.state.rglob("*") if path.is_file()]
    assert not [path for path in state if credential.encode() in path.read_bytes()]
    assert coordinator.status()["runs"] == {}


def test_no_run_starts_without_a_credential_that_holds(coordinator: Coordinator) -> None:
    file = coordinator.folder / "b.novak.operator"
    coordinator.call("operators", "add", "b.novak", "--out", str(file))
    credential = file.read_text().strip()
    stored = json.loads((coordinator.state / "operators.json").read_text())
    assert start_run(coordinator) == 401
    assert start_run(coordinator, stored["b.novak"]["sha256"]) == 401
    # Let in, and told by Flower that this is no run.
    assert start_run(coordinator, credential) not in (401, 403)

    mine = ("--operator", str(file))
    assert "superlink" in coordinator.call("status", *mine)
    assert "b.novak" in coordinator.call("operators", "list")
    coordinator.call("operators", "remove", "b.novak")
    assert start_run(coordinator, credential) == 401
    refused = coordinator.call("status", *mine, code=10)
    assert "needs an operator's credential" in refused
    assert "b.novak" not in coordinator.call("operators", "list")


def test_the_commands_say_where_a_credential_is_wanted(coordinator: Coordinator) -> None:
    nowhere = coordinator.folder / "nowhere"
    assert "no operator's credential at" in coordinator.call(
        "status", "--operator", str(nowhere), code=2
    )
    open_to_all = coordinator.folder / "open"
    open_to_all.write_bytes(own(coordinator).read_bytes())
    open_to_all.chmod(0o644)
    assert "chmod 600" in coordinator.call("status", "--operator", str(open_to_all), code=2)
    with own(coordinator).open() as credential:
        command = coordinator.command("status", "--operator", "-")
        subprocess.run(command, env=coordinator.environment, stdin=credential, check=True)


def test_plain_flwr_is_told_why_it_is_refused(coordinator: Coordinator) -> None:
    environment = {**os.environ, "FLWR_HOME": str(coordinator.state / "flower")}
    for command in (
        ("run", str(coordinator.folder / "app"), "fedvitals"),
        ("ls", "fedvitals"),
        ("supernode", "list", "fedvitals"),
    ):
        said = call([str(BIN / "flwr"), *command], environment, 1)
        assert "needs an operator's credential" in " ".join(said.split()).replace("│ ", "")


def test_every_call_is_noted(coordinator: Coordinator) -> None:
    coordinator.call("status")
    entries = list(read_log(control_log(coordinator.state)))
    assert control_log(coordinator.state).stat().st_mode & 0o777 == 0o600
    assert {"list-nodes", "list-runs"} <= {entry["method"] for entry in entries}
    # The services have a name of their own: they look which sites' keys are known.
    assert entries[0]["operator"] == "services"
    assert {entry["status"] for entry in entries if entry["operator"] is None} == {401}


def test_no_second_door_is_opened(coordinator: Coordinator) -> None:
    log = (coordinator.state / "logs" / "superlink.log").read_text()
    assert "Starting the SuperLink Control HTTP API" in log
    assert "Deployment Runtime: Starting Control API" not in log  # the gRPC one
