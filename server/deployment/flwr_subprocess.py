"""Client of a SuperLink that calls Flower's command `flwr`, with a FLWR_HOME of its own.

`flwr run --stream` exits with 0 even if the run failed, and other commands print lines before the
requested JSON. Here the final status is queried, and unreadable output raises FederationError.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from common.errors import FederationError
from common.files.paths import home
from common.flower.environment import executable, flower_environment
from server.deployment import operators

CREDENTIAL_VARIABLE = "FEDVITALS_CREDENTIAL"
"""Environment variable that passes the credential to `server.deployment.flwr_cli`."""
CONNECTION = "fedvitals"
LAST_HEARD = "last-heard-s"
"""Key that `server.deployment.flwr_cli` adds to a node: seconds since its last heartbeat."""
SILENT_AFTER_S = 15.0
"""A site's node sends a heartbeat every 4 s, and each may take 5 s; the SuperLink calls it online
for 60 s after the last one."""
FINISHED = "finished:completed"
CALL_TIMEOUT_S = 120.0
"""Timeout of a call, for a SuperLink that hangs."""
_POLL_S = 2.0
_MOST_S = 10.0
"""Longest interval between two queries of a run's status. A query starts a process and takes 0.7 s
of processor time, so the interval grows with the run's duration."""


@dataclass(frozen=True)
class Flower:
    """Client of one SuperLink.

    Attributes:
        folder: FLWR_HOME, with the connection in its config.toml.
        environment: environment of each process of Flower that belongs to this SuperLink.
        credential: the operator's credential; empty for a SuperLink without operators, in a
            simulation.
    """

    folder: Path
    environment: Mapping[str, str]
    credential: str = field(default="", repr=False)

    def start_run(
        self, app: Path, settings: Mapping[str, Any], federation: Mapping[str, Any] | None = None
    ) -> str:
        """Ship the app and start a run.

        Args:
            app: the project's folder.
            settings: the run's settings, by flat key.
            federation: of a simulation: the number of nodes and their resources.

        Returns:
            The run's id.

        Raises:
            FederationError: Flower does not start it.
        """
        arguments = ["run", str(app), CONNECTION, "--run-config", pairs(settings)]
        if federation:
            arguments += ["--federation-config", pairs(federation)]
        answer = self._query(arguments, "Flower did not start the run")
        if "run-id" not in answer:
            raise FederationError(f"Flower did not start the run: {answer}")
        return str(answer["run-id"])

    def wait(
        self, run: str, on_poll: Callable[[], None] | None = None, patience_s: float = 0.0
    ) -> str:
        """Wait for a run's end.

        Args:
            run: its id.
            on_poll: called every 2 s until the run ends.
            patience_s: longest time in seconds without a SuperLink, e.g. during its restart.

        Returns:
            Its final status, `FINISHED` or another.

        Raises:
            FederationError: Flower does not report the status.
        """
        began = due = time.monotonic()
        gone: float | None = None
        status = "unknown"
        while True:
            now = time.monotonic()
            if now >= due:
                try:
                    status = self.status(run)
                    gone, due = None, now + min(_MOST_S, (now - began) / 4)
                except FederationError:
                    gone = now if gone is None else gone
                    if now - gone >= patience_s:
                        raise
            if on_poll is not None:
                on_poll()
            if status.startswith("finished"):
                return status
            time.sleep(_POLL_S)

    def finish(
        self, run: str, on_poll: Callable[[], None] | None = None, patience_s: float = 0.0
    ) -> str:
        """Wait as `wait` does, and raise `FederationError` if the run did not complete."""
        status = self.wait(run, on_poll, patience_s)
        if status != FINISHED:
            raise FederationError(f"the Flower run ended as {status}: {self.last_error(run)}")
        return status

    def status(self, run: str) -> str:
        """Return a run's status, e.g. ``running`` or ``finished:failed``."""
        problem = "Flower does not report the run's status"
        found = self._query(["ls", CONNECTION, "--run-id", run], problem).get("runs", [])
        if not found:
            raise FederationError(f"the SuperLink knows no run {run}")
        return str(found[0]["status"])

    def runs(self) -> dict[str, str]:
        """Return the status of every run by id, in the order that Flower gives."""
        answer = self._query(["ls", CONNECTION], "Flower does not list its runs")
        return {str(run["run-id"]): str(run["status"]) for run in answer.get("runs", [])}

    def stop_run(self, run: str) -> None:
        """Stop a run: its ServerApp ends within seconds; a site's training continues to its end."""
        self._query(["stop", run, CONNECTION], f"Flower did not stop run {run}")

    def last_error(self, run: str) -> str:
        """Return the line with the error in a run's log."""
        return last_error(self._call(["log", run, CONNECTION, "--show"]).stdout)

    def build(self, app: Path, folder: Path) -> Path:
        """Write the app's bundle, the bytes that `start_run` ships, into an empty folder."""
        result = self._call(["build", "--app", str(app)], folder)
        bundles = list(folder.glob("*.fab"))
        if len(bundles) != 1:
            raise FederationError(f"Flower built no bundle: {last_error(result.stdout)}")
        return bundles[0]

    def register(self, public_key: Path, name: str) -> str:
        """Register the node with this key; return its id."""
        arguments = ["supernode", "register", str(public_key), CONNECTION, "--name", name]
        answer = self._query(arguments, f"Flower did not register {name}")
        return str(answer["node-id"])

    def unregister(self, node: str) -> None:
        """Unregister a node, which can no longer join."""
        self._query(["supernode", "unregister", node, CONNECTION], f"node {node} stays registered")

    def nodes(self) -> dict[str, str]:
        """Return the status of every node by id: registered, online, offline or unregistered.

        A node that the SuperLink still calls online is ``not heard for 40 s`` after
        `SILENT_AFTER_S` without a heartbeat.
        """
        arguments = ["supernode", "list", CONNECTION, "--verbose"]
        answer = self._query(arguments, "Flower does not list its nodes")
        return {str(node["node-id"]): node_status(node) for node in answer.get("nodes", [])}

    def _query(self, arguments: list[str], problem: str) -> dict[str, Any]:
        """Call `flwr` and return the JSON object in its output."""
        result = self._call([*arguments, "--format", "json"])
        for start, character in enumerate(result.stdout):
            if character == "{":
                try:
                    answer, _ = json.JSONDecoder().raw_decode(result.stdout[start:])
                except ValueError:
                    continue
                if not isinstance(answer, dict):
                    continue
                if answer.get("success"):
                    return answer
                reason = answer.get("error-message", result.stdout)
                raise FederationError(f"{problem}: {last_error(str(reason))}")
        raise FederationError(f"{problem}: {last_error(result.stdout)}")

    def _call(
        self, arguments: list[str], folder: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        command, own = [str(executable("flwr"))], dict(self.environment)
        if self.credential:
            # By the environment: every user can read a command line.
            command = [sys.executable, "-P", "-m", "server.deployment.flwr_cli"]
            own[CREDENTIAL_VARIABLE] = self.credential
        try:
            return subprocess.run(  # noqa: S603 - our own command, no shell
                [*command, *arguments],
                cwd=folder,
                env=own,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                check=False,
                timeout=CALL_TIMEOUT_S,
            )
        except subprocess.TimeoutExpired:
            raise FederationError(
                f"the SuperLink did not respond to `flwr {arguments[0]}` within "
                f"{CALL_TIMEOUT_S:.0f} s; see its log"
            ) from None


def connect(folder: Path, address: str, ca: Path | None = None, credential: str = "") -> Flower:
    """Write Flower's configuration for one SuperLink and return a client of it.

    Args:
        folder: FLWR_HOME, created if absent.
        address: HOST:PORT of the SuperLink.
        ca: CA of its certificate; None for a SuperLink without TLS, in a simulation.
        credential: see `Flower`.
    """
    proof = f"root-certificates = {json.dumps(str(ca))}" if ca else "insecure = true"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.toml").write_text(
        f'[superlink]\ndefault = "{CONNECTION}"\n\n'
        f"[superlink.{CONNECTION}]\naddress = {json.dumps(address)}\n{proof}\n"
    )
    environment = {**flower_environment(), "FLWR_HOME": str(folder), "FEDVITALS_HOME": str(home())}
    # The services and the apps that they start do not need it.
    environment.pop(operators.OPERATOR_VARIABLE, None)
    return Flower(folder, environment, credential)


def node_status(node: Mapping[str, Any]) -> str:
    """Return a node's status as far as the facts allow it.

    Args:
        node: its `status`, and `LAST_HEARD` if that is known.
    """
    heard = node.get(LAST_HEARD)
    if heard is not None and heard > SILENT_AFTER_S:
        return f"not heard for {heard:.0f} s"
    return str(node["status"])


def pairs(values: Mapping[str, Any]) -> str:
    """Return settings in the format of Flower's command line: TOML pairs, separated by spaces."""
    return " ".join(f"{key}={json.dumps(value)}" for key, value in values.items())


def last_error(text: str) -> str:
    """Return the last line of a log with the word "error", or its last line."""
    lines = [line.strip(" │") for line in text.splitlines() if line.strip(" │╭╮╰╯─")]
    errors = [line for line in lines if "Error" in line or "error" in line]
    return (errors or lines or ["no output"])[-1][:500]
