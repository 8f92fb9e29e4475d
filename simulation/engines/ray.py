"""The Ray engine: `flwr run .` underneath, on a SuperLink of its own, with the true final status.

`flwr run --stream` exits with 0 even when the run failed, and the SuperLink that it starts keeps
running with the folder and environment of its first run. So this engine starts a SuperLink with its
own home and port, asks it how the run ended, and stops it.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from common.errors import FederationError
from common.home import home

PROJECT = Path(__file__).resolve().parents[2]
"""The folder of pyproject.toml, which Flower ships as the app."""
FINISHED = "finished:completed"
_CONNECTION = "fedvitals"
_START_TIMEOUT_S = 60.0
_POLL_S = 2.0


def run_with_ray(
    run_config: Mapping[str, Any],
    *,
    nodes: int,
    gpus_a_client: float = 0.0,
    on_poll: Callable[[], None] | None = None,
) -> None:
    """Run a federation through `flwr run`, each client in a Ray actor.

    Args:
        run_config: the run's settings, as flat pairs; paths in it absolute.
        nodes: number of simulated SuperNodes.
        gpus_a_client: share of a GPU that a client gets; 1 gives each its own.
        on_poll: called every other second while the run goes on.

    Raises:
        FederationError: where the run did not complete; the message ends with its last error.
    """
    if not (PROJECT / "pyproject.toml").is_file():
        raise FederationError(f"the Ray engine ships the project's folder; {PROJECT} is not one")
    with (
        tempfile.TemporaryDirectory(prefix="fedvitals-flwr-") as folder,
        _superlink(Path(folder)) as environment,
    ):
        run_id = _start(run_config, nodes, gpus_a_client, environment)
        status = _wait(run_id, environment, on_poll)
        if status != FINISHED:
            log = _flwr(["log", run_id, _CONNECTION, "--show"], environment)
            raise FederationError(f"the Flower run ended as {status}: {_last_error(log)}")


@contextmanager
def _superlink(flwr_home: Path) -> Iterator[dict[str, str]]:
    """Run a SuperLink in simulation mode; give the environment in which `flwr` talks to it."""
    port, control_port = _free_port(), _free_port()
    (flwr_home / "config.toml").write_text(
        f'[superlink]\ndefault = "{_CONNECTION}"\n\n'
        f'[superlink.{_CONNECTION}]\naddress = "127.0.0.1:{port}"\ninsecure = true\n'
    )
    environment = {
        **os.environ,
        "FLWR_HOME": str(flwr_home),
        "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "FEDVITALS_HOME": str(home()),
        # Flower starts its further commands by name.
        "PATH": os.pathsep.join([str(_bin()), os.environ.get("PATH", os.defpath)]),
    }
    command = [str(_bin() / "flower-superlink"), "--insecure", "--simulation"]
    command += ["--isolation", "subprocess", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--control-api-address", f"127.0.0.1:{control_port}"]
    with (flwr_home / "superlink.log").open("wb") as log:
        process = subprocess.Popen(  # noqa: S603 - our own command, no shell
            command, env=environment, stdout=log, stderr=log, start_new_session=True
        )
    try:
        _await_port(port, process, flwr_home / "superlink.log")
        yield environment
    finally:
        process.terminate()
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _start(
    run_config: Mapping[str, Any], nodes: int, gpus_a_client: float, environment: dict[str, str]
) -> str:
    """Ship the app and start the run; return its id."""
    federation = {
        "num-supernodes": nodes,
        "client-resources-num-cpus": 1,
        "client-resources-num-gpus": float(gpus_a_client),
    }
    arguments = ["run", str(PROJECT), _CONNECTION, "--format", "json"]
    arguments += ["--federation-config", _pairs(federation), "--run-config", _pairs(run_config)]
    output = _flwr(arguments, environment)
    try:
        answer = json.loads(output[output.index("{") :])
        return str(answer["run-id"])
    except (KeyError, ValueError):
        raise FederationError(f"Flower did not start the run: {_last_error(output)}") from None


def _wait(run_id: str, environment: dict[str, str], on_poll: Callable[[], None] | None) -> str:
    """Return the run's final status, e.g. `finished:completed`."""
    while True:
        output = _flwr(["ls", _CONNECTION, "--run-id", run_id, "--format", "json"], environment)
        try:
            status = str(json.loads(output[output.index("{") :])["runs"][0]["status"])
        except (KeyError, IndexError, ValueError):
            raise FederationError(
                f"Flower does not tell the run's status: {_last_error(output)}"
            ) from None
        if status.startswith("finished"):
            return status
        if on_poll is not None:
            on_poll()
        time.sleep(_POLL_S)


def _flwr(arguments: list[str], environment: dict[str, str]) -> str:
    """Call Flower's command and return all that it prints."""
    result = subprocess.run(  # noqa: S603 - our own command, no shell
        [str(_bin() / "flwr"), *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return result.stdout


def _pairs(values: Mapping[str, Any]) -> str:
    """Write settings as Flower's command line takes them: TOML values, separated by blanks."""
    return " ".join(f"{key}={json.dumps(value)}" for key, value in values.items())


def _last_error(text: str) -> str:
    """Return the last line of a log that speaks of an error, or its last line."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if "Error" in line or "error" in line]
    return (errors or lines or ["no output"])[-1][:500]


def _bin() -> Path:
    """Return the folder of this environment's commands; a link to python is not followed."""
    return Path(sys.executable).absolute().parent


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def _await_port(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _START_TIMEOUT_S
    while time.monotonic() < deadline and process.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.2)
    raise FederationError(f"Flower's SuperLink did not start: {_last_error(log.read_text())}")
