"""Flower's SuperExec at a site: requests tasks from the node and forks the app for each.

Only this process knows the secret that the node requires for a task. The secret is in no command
line, environment or open file, and the app's processes can read neither its file nor this process's
memory: a process that an app leaves running cannot take the next bundle's message.

    python -P -m client.node.isolation.app_process ADDRESS PARENT [HIDDEN...] < SECRET

is started by a node with ``isolation = "subprocess"``.
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
from common.files.private import make_private_folder
from common.flower.environment import flower_environment
from common.flower.log_colours import plain_flower_log

log = logging.getLogger("flwr.fedvitals.client")


class ForkServer:
    """Client of the fork server's process, which it restarts if that has died.

    Args:
        hidden: files to hide from the app.
    """

    def __init__(self, hidden: Sequence[Path]) -> None:
        self._hidden = hidden
        self._folder = Path(tempfile.mkdtemp(prefix="fedvitals-messages-"))
        self._process, self._lines = self._start()

    def fork(self, arguments: list[str]) -> None:
        """Start the app for one message.

        Args:
            arguments: the command line of `flwr-clientapp`.

        Raises:
            OSError: if the process cannot be started, e.g. for lack of memory.
        """
        self.restart_if_dead()
        self._lines.write(f"{json.dumps(arguments)}\n".encode())

    def restart_if_dead(self) -> None:
        """Restart the process if it has died, after ending all its descendants.

        Raises:
            OSError: if it cannot be started.
        """
        if self._process.poll() is None:
            return
        log.warning("the fork server ended (%s); restarting it", self._process.returncode)
        self._lines.close()
        end_descendants()
        for left in self._folder.iterdir():
            shutil.rmtree(left, ignore_errors=True)
        self._process, self._lines = self._start()

    def close(self) -> None:
        """End the process and the message in work."""
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
    """Flower's executor, with a fork in place of a new process.

    Args:
        server: the fork server.
    """

    def __init__(self, server: ForkServer) -> None:
        self._server = server

    def launch(self, spec: ExecutionSpec) -> LaunchResult:
        """Start the app for a message; tasks of other kinds are refused."""
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
            return LaunchResult.failed(f"the app's process cannot be started: {error}")
        return LaunchResult.accepted()

    def reconcile(self) -> None:
        """Restart the fork server between messages if it has died."""
        try:
            self._server.restart_if_dead()
        except OSError as error:
            log.warning("the fork server cannot be started: %s", error)

    def close(self) -> None:
        """End the fork server."""
        self._server.close()


def local_api_ca(node: NodeSection) -> Path | None:
    """Return the CA certificate of the node's local interface; None without TLS.

    Raises:
        UsageError: if the file that `node.client-api-ca` names is missing.
    """
    if node.client_api_tls is None:  # `client.config.site_config` allows it on loopback alone
        return None
    ca = node.client_api_tls.ca
    if not ca.is_file():
        raise UsageError(f"node.client-api-ca = {ca} is missing")
    return ca


def run_app_process(node: NodeSection, state: Path) -> None:
    """Run the app's process for a node until it is stopped.

    Args:
        node: the node's section of site.toml, with its address and the secret.
        state: the site's state folder. It is created here, before the sandbox: an app cannot read
            a folder that is created beside the secret while it runs.

    Raises:
        UsageError: if the node starts the app itself, or the secret or CA certificate is missing.
    """
    if node.isolation != "process":
        raise UsageError(
            "site.toml has node.isolation = subprocess: the node starts the app itself; set "
            'isolation = "process" to run it separately'
        )
    ca, secret = local_api_ca(node), None
    if node.secret is not None:
        try:
            secret = node.secret.read_bytes()
        except OSError as problem:
            raise UsageError(
                f"node.secret = {node.secret} is missing or cannot be read ({problem.strerror})"
            ) from problem
    make_private_folder(state)
    hidden = [path for path in (node.secret, node.key) if path is not None]
    serve_node(str(node.client_api), secret, hidden, ca)


def serve_node(
    address: str, secret: bytes | None, hidden: Sequence[Path], ca: Path | None = None
) -> None:
    """Request tasks from a node and start the app for each, until stopped.

    Args:
        address: address of the node's local interface.
        secret: the secret that the node requires; None = none.
        hidden: files to hide from the app.
        ca: CA certificate of the interface; None = no TLS.
    """
    hide_memory()
    adopt_orphans()
    if not landlock_version():
        log.warning(
            "this machine has no Landlock: an app can read %s and signal our processes; processes "
            "that it leaves running are still killed with its message",
            ", ".join(map(str, hidden)) or "what this user can read",
        )
    os.environ.update(flower_environment())
    plain_flower_log()
    executor = WarmExecutor(ForkServer(hidden))
    setattr(superexec, "get_executor", lambda *_, **__: executor)  # noqa: B010
    superexec.run_superexec(
        runtime_api_address=address,
        insecure=ca is None,
        root_certificates_path=None if ca is None else str(ca),
        superexec_auth_secret=secret,
    )


def main() -> None:
    """Run the app's process for the node that has started this one."""
    address, parent, *hidden = sys.argv[1:]
    end_with_parent(int(parent), signal.SIGTERM)
    serve_node(address, sys.stdin.buffer.read(), [Path(name) for name in hidden])


if __name__ == "__main__":
    main()
