"""A long-running process of Flower: its start with a log, and its end with its children."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from common.errors import FederationError
from server.deployment.flwr_subprocess import last_error

START_TIMEOUT_S = 60.0
_END_TIMEOUT_S = 20.0


class Service:
    """A long-running command.

    Args:
        command: the command with its arguments.
        address: HOST:PORT that accepts connections once it is up.
        environment: environment of the process.
        log: the file to which its output is appended; its stem is the service's name.
    """

    def __init__(
        self, command: Sequence[str], address: str, environment: Mapping[str, str], log: Path
    ) -> None:
        self.name = log.stem
        self.log = log
        self._address = address
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as output:
            # A process group of its own: Ctrl-C at the terminal does not reach it before we end
            # it, and its children (a ServerApp) end with it.
            self._process = subprocess.Popen(  # noqa: S603 - our own command, no shell
                list(command), env=dict(environment), stdout=output, stderr=output,
                start_new_session=True,
            )  # fmt: skip

    @property
    def pid(self) -> int:
        """The id of the process."""
        return self._process.pid

    def ended(self) -> int | None:
        """Return the exit code, None while the process is running."""
        return self._process.poll()

    def await_port(self) -> None:
        """Wait until it accepts connections.

        Raises:
            FederationError: it ends first, or takes longer than `START_TIMEOUT_S`.
        """
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline and self.ended() is None:
            if accepts_connections(self._address):
                return
            time.sleep(0.2)
        text = self.log.read_text(encoding="utf-8", errors="replace")
        raise FederationError(f"{self.name} did not start: {last_error(text)}")

    def end(self) -> None:
        """End the process and its children: SIGTERM, then SIGKILL."""
        self._signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=_END_TIMEOUT_S)
        self._signal(signal.SIGKILL)
        self._process.wait()

    def _signal(self, number: int) -> None:
        # Also after the leader's end: its children may still be in the group.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)


def accepts_connections(address: str) -> bool:
    """Return True if a process listens at HOST:PORT."""
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=2.0):
            return True
    except OSError:
        return False
