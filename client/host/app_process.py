"""Flower's SuperExec at a site: asks the node for work and starts the app for it, forked warm."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from typing import IO

from flwr.supercore.cli import flower_superexec
from flwr.supercore.constant import TaskType
from flwr.supercore.superexec.executor.subprocess_executor import SubprocessExecutor
from flwr.supercore.superexec.executor.types import ExecutionSpec, LaunchResult

from client.site.config import NodeSection
from common.errors import UsageError
from common.flower_environment import flower_environment

log = logging.getLogger("flwr.fedvitals.client")
_COLD = SubprocessExecutor.launch


class ForkServer:
    """The process that forks; started anew where it has died."""

    def __init__(self) -> None:
        self._process, self._lines = self._start()

    def fork(self, arguments: list[str]) -> None:
        """Start the app once.

        Args:
            arguments: the command line of `flwr-clientapp`.

        Raises:
            OSError: where the process cannot be had, for want of memory perhaps.
        """
        if self._process.poll() is not None:
            log.warning("the warm process ended (%s); starting anew", self._process.returncode)
            self._lines.close()
            self._process, self._lines = self._start()
        self._lines.write(f"{json.dumps(arguments)}\n".encode())

    @staticmethod
    def _start() -> tuple[subprocess.Popen[bytes], IO[bytes]]:
        reading, writing = os.pipe()
        command = [sys.executable, "-m", "client.host.fork_server"]
        process = subprocess.Popen(command, stdin=reading)  # noqa: S603 - our own command
        os.close(reading)
        return process, os.fdopen(writing, "wb", buffering=0)


def launch(server: ForkServer, executor: SubprocessExecutor, spec: ExecutionSpec) -> LaunchResult:
    """Do what Flower's executor does, by a fork instead of a new process.

    Args:
        server: the process that forks.
        executor: Flower's own, which is asked where there is no fork.
        spec: what Flower wants run.
    """
    if spec.task_type != TaskType.CLIENT_APP:
        return _COLD(executor, spec)
    arguments = ["flwr-clientapp", "--runtime-api-address", spec.runtime_api_address]
    arguments += ["--token", spec.token]
    if spec.insecure:
        arguments.append("--insecure")
    elif spec.root_certificates_path is not None:
        arguments += ["--root-certificates", spec.root_certificates_path]
    try:
        server.fork(arguments)
    except OSError as error:
        log.warning("no warm process (%s); starting a cold one", error)
        return _COLD(executor, spec)
    return LaunchResult.accepted()


def trust_arguments(node: NodeSection) -> list[str]:
    """Return how Flower's commands are told whom to take work from.

    Raises:
        UsageError: where the certificate that `node.client-api-ca` names is not there.
    """
    tls = node.client_api_tls
    if tls is None:  # `client.site.config` allows it on loopback alone
        return ["--insecure"]
    if not tls.ca.is_file():
        raise UsageError(f"node.client-api-ca names {tls.ca}, which is not there")
    return ["--root-certificates", str(tls.ca)]


def run_app_process(node: NodeSection) -> None:
    """Serve a node until ended.

    Args:
        node: the node's section of site.toml: where it is asked for work, and the secret.

    Raises:
        UsageError: where the node starts the app itself, or its secret or the certificate that it
            trusts is not there.
    """
    if node.isolation != "process":
        raise UsageError(
            "site.toml has node.isolation = subprocess: the node starts the app itself; set "
            'isolation = "process" to run it apart'
        )
    sys.argv = ["flower-superexec", "--runtime-api-address", str(node.client_api)]
    sys.argv += trust_arguments(node)
    if node.secret is not None:
        if not node.secret.is_file():
            raise UsageError(f"node.secret names {node.secret}, which is not there")
        sys.argv += ["--superexec-auth-secret-file", str(node.secret)]
    os.environ.update(flower_environment())
    server = ForkServer()
    setattr(SubprocessExecutor, "launch", lambda own, spec: launch(server, own, spec))  # noqa: B010
    flower_superexec()
