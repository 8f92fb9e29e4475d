"""The Ray engine: `flwr run .` on a SuperLink of its own.

The SuperLink that `flwr run` starts by itself keeps running with the folder and environment of its
first run. This engine therefore starts one with its own home and port, reads the final status of
the run from it, and stops it.
"""

from __future__ import annotations

import socket
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from common.errors import FederationError
from common.flower.environment import executable
from server.deployment.flwr_subprocess import Flower, connect
from server.deployment.server_config import PROJECT
from server.deployment.service_process import Service


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
        gpus_a_client: share of a GPU per client; with 1 each has its own.
        on_poll: called every other second during the run.

    Raises:
        FederationError: the run did not complete; the message ends with its last error.
    """
    if not (PROJECT / "pyproject.toml").is_file():
        raise FederationError(f"the Ray engine ships the project's folder; {PROJECT} is not one")
    federation = {
        "num-supernodes": nodes,
        "client-resources-num-cpus": 1,
        "client-resources-num-gpus": float(gpus_a_client),
    }
    with (
        tempfile.TemporaryDirectory(prefix="fedvitals-flwr-") as folder,
        _superlink(Path(folder)) as flower,
    ):
        run = flower.start_run(PROJECT, run_config, federation)
        flower.finish(run, on_poll)


@contextmanager
def _superlink(folder: Path) -> Iterator[Flower]:
    """Run a SuperLink in simulation mode; yield the client for it."""
    port, control_port = _free_port(), _free_port()
    address = f"127.0.0.1:{port}"
    flower = connect(folder, address)
    command = [str(executable("flower-superlink")), "--insecure", "--simulation"]
    command += ["--isolation", "subprocess", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--control-api-address", f"127.0.0.1:{control_port}"]
    superlink = Service(command, address, flower.environment, folder / "superlink.log")
    try:
        superlink.await_port()
        yield flower
    finally:
        superlink.end()


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port
