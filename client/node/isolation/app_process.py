"""Flower's SuperExec at a site: asks the node for work and starts the app for it, forked warm.

It alone knows the secret by which the node gives out work. The secret is in no command line and no
environment, in no file that is open, and the app's processes can read neither the file in which it
lies nor this process's memory: what an app leaves running cannot take the next bundle's message.

    python -P -m client.node.isolation.app_process ADDRESS PARENT [HIDDEN...] < SECRET

is what a node with ``isolation = "subprocess"`` starts.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from flwr.supercore.constant import TaskType
from flwr.supercore.superexec import run_superexec as superexec
from flwr.supercore.superexec.executor.subprocess_executor import SubprocessExecutor
from flwr.supercore.superexec.executor.types import ExecutionSpec, LaunchResult

from client.config.node_section import NodeSection
from client.node.isolation.landlock import landlock_version
from client.node.isolation.linux import adopt_orphans, end_descendants, end_with_parent, hide_memory
from common.errors import UsageError
from common.flower.environment import flower_environment

log = logging.getLogger("flwr.fedvitals.client")


class ForkServer:
    """The process that forks; started anew where it has died.

    Args:
        hidden: files that no app shall read.
    """

    def __init__(self, hidden: Sequence[Path]) -> None:
        self._hidden = hidden
        self._folder = Path(tempfile.mkdtemp(prefix="fedvitals-messages-"))
        self._process, self._lines = self._start()

    def fork(self, arguments: list[str]) -> None:
        """Start the app once.

        Args:
            arguments: the command line of `flwr-clientapp`.

        Raises:
            OSError: where the process cannot be had, for want of memory perhaps.
        """
        self.mend()
        self._lines.write(f"{json.dumps(arguments)}\n".encode())

    def mend(self) -> None:
        """Start the process anew where it has died, once nothing is left of what it started.

        Raises:
            OSError: where it cannot be had.
        """
        if self._process.poll() is None:
            return
        log.warning("the warm process ended (%s); starting anew", self._process.returncode)
        self._lines.close()
        end_descendants()
        for left in self._folder.iterdir():
            shutil.rmtree(left, ignore_errors=True)
        self._process, self._lines = self._start()

    def close(self) -> None:
        """End it, and the message in work."""
        self._lines.close()
        end_descendants()
        self._process.poll()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _start(self) -> tuple[subprocess.Popen[bytes], IO[bytes]]:
        reading, writing = os.pipe()
        module = [
            sys.executable,
            "-P",
            "-m",
            "client.node.isolation.fork_server",
            str(self._folder),
        ]
        process = subprocess.Popen(  # noqa: S603 - our own command
            [*module, *map(str, self._hidden)], stdin=reading
        )
        os.close(reading)
        return process, os.fdopen(writing, "wb", buffering=0)


class WarmExecutor(SubprocessExecutor):
    """Does what Flower's executor does, by a fork instead of a new process.

    Args:
        server: the process that forks.
    """

    def __init__(self, server: ForkServer) -> None:
        self._server = server

    def launch(self, spec: ExecutionSpec) -> LaunchResult:
        """Start the app for a message; a task of another kind is none of a site's."""
        if spec.task_type != TaskType.CLIENT_APP:
            return LaunchResult.failed(f"a site runs no {spec.task_type}")
        arguments = ["flwr-clientapp", "--runtime-api-address", spec.runtime_api_address]
        arguments += ["--token", spec.token]
        if spec.insecure:
            arguments.append("--insecure")
        elif spec.root_certificates_path is not None:
            arguments += ["--root-certificates", spec.root_certificates_path]
        try:
            self._server.fork(arguments)
        except OSError as error:
            return LaunchResult.failed(f"no process for the app: {error}")
        return LaunchResult.accepted()

    def reconcile(self) -> None:
        """Between messages: see to the process that forks."""
        try:
            self._server.mend()
        except OSError as error:
            log.warning("no warm process: %s", error)

    def close(self) -> None:
        """End what was started."""
        self._server.close()


def authority(node: NodeSection) -> Path | None:
    """Return who has signed the node's local interface; None where it is in the clear.

    Raises:
        UsageError: where the certificate that `node.client-api-ca` names is not there.
    """
    if node.client_api_tls is None:  # `client.config.site_config` allows it on loopback alone
        return None
    ca = node.client_api_tls.ca
    if not ca.is_file():
        raise UsageError(f"node.client-api-ca names {ca}, which is not there")
    return ca


def run_app_process(node: NodeSection, state: Path) -> None:
    """Serve a node until ended.

    Args:
        node: the node's section of site.toml: where it is asked for work, and the secret.
        state: the site's folder of state, which is made: an app could not read what lies in a
            folder that is made beside the secret while it runs.

    Raises:
        UsageError: where the node starts the app itself, or its secret or the certificate that it
            trusts is not there.
    """
    if node.isolation != "process":
        raise UsageError(
            "site.toml has node.isolation = subprocess: the node starts the app itself; set "
            'isolation = "process" to run it apart'
        )
    ca, secret = authority(node), None
    if node.secret is not None:
        try:
            secret = node.secret.read_bytes()
        except OSError as problem:
            raise UsageError(
                f"node.secret names {node.secret}, which is not there or cannot be read "
                f"({problem.strerror})"
            ) from problem
    state.mkdir(parents=True, exist_ok=True)
    hidden = [path for path in (node.secret, node.key) if path is not None]
    serve(str(node.client_api), secret, hidden, ca)


def serve(
    address: str, secret: bytes | None, hidden: Sequence[Path], ca: Path | None = None
) -> None:
    """Ask a node for work and start the app for it until ended.

    Args:
        address: the node's local interface.
        secret: what it asks for; None = nothing.
        hidden: files that no app shall read.
        ca: who has signed the interface's certificate; None = it has none.
    """
    hide_memory()
    adopt_orphans()
    if not landlock_version():
        log.warning(
            "this machine has no Landlock: an app can read %s and signal our processes; what it "
            "leaves running is killed with its message all the same",
            ", ".join(map(str, hidden)) or "what this user can read",
        )
    os.environ.update(flower_environment())
    executor = WarmExecutor(ForkServer(hidden))
    setattr(superexec, "get_executor", lambda *_, **__: executor)  # noqa: B010
    superexec.run_superexec(
        runtime_api_address=address,
        insecure=ca is None,
        root_certificates_path=None if ca is None else str(ca),
        superexec_auth_secret=secret,
    )


def main() -> None:
    """Serve the node that has started this process."""
    address, parent, *hidden = sys.argv[1:]
    end_with_parent(int(parent), signal.SIGTERM)
    serve(address, sys.stdin.buffer.read(), [Path(name) for name in hidden])


if __name__ == "__main__":
    main()
