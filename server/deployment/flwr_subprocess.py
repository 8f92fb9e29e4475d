"""Flower's own command `flwr`, called with a home of its own, and answers that can be trusted.

`flwr run --stream` exits with 0 even when the run failed, and its other commands print a line or
two before the JSON that they were asked for. Here a run's end is asked for, and what cannot be read
is an error of ours.
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
from common.flower.environment import executable, flower_environment
from common.paths import home
from server.deployment import operators

CREDENTIAL_VARIABLE = "FEDVITALS_CREDENTIAL"
"""Of `server.deployment.flwr_cli`, which takes the credential from it."""
CONNECTION = "fedvitals"
FINISHED = "finished:completed"
CALL_TIMEOUT_S = 120.0
"""A SuperLink that hangs must not hold whoever asks it."""
_POLL_S = 2.0
_MOST_S = 10.0
"""Asking starts a process of Flower's, two thirds of a second of the processor: the longer a run
has taken, the less often it is asked about."""


@dataclass(frozen=True)
class Flower:
    """The way to one SuperLink.

    Attributes:
        folder: Flower's home, with the connection in its config.toml.
        environment: for this and for every process of Flower's that belongs to this SuperLink.
        credential: the operator's, with which the SuperLink is asked; empty for one that needs
            none, in a simulation.
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
            settings: the run's settings, as flat pairs.
            federation: of a simulation: the number of nodes and what each gets.

        Returns:
            The run's id.

        Raises:
            FederationError: where Flower does not start it.
        """
        arguments = ["run", str(app), CONNECTION, "--run-config", pairs(settings)]
        if federation:
            arguments += ["--federation-config", pairs(federation)]
        answer = self._ask(arguments, "Flower did not start the run")
        if "run-id" not in answer:
            raise FederationError(f"Flower did not start the run: {answer}")
        return str(answer["run-id"])

    def wait(
        self, run: str, on_poll: Callable[[], None] | None = None, patience_s: float = 0.0
    ) -> str:
        """Wait for a run's end.

        Args:
            run: its id.
            on_poll: called every other second while the run goes on.
            patience_s: how long the SuperLink may be gone, as while it is started anew.

        Returns:
            Its final status, `FINISHED` or another.

        Raises:
            FederationError: where Flower does not tell it.
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
        """Wait as `wait` does, and raise `FederationError` where the run did not complete."""
        status = self.wait(run, on_poll, patience_s)
        if status != FINISHED:
            raise FederationError(f"the Flower run ended as {status}: {self.last_error(run)}")
        return status

    def status(self, run: str) -> str:
        """Return a run's status, e.g. ``running`` or ``finished:failed``."""
        problem = "Flower does not tell the run's status"
        found = self._ask(["ls", CONNECTION, "--run-id", run], problem).get("runs", [])
        if not found:
            raise FederationError(f"the SuperLink knows no run {run}")
        return str(found[0]["status"])

    def runs(self) -> dict[str, str]:
        """Return the status of every run by id, in the order that Flower gives."""
        answer = self._ask(["ls", CONNECTION], "Flower does not list its runs")
        return {str(run["run-id"]): str(run["status"]) for run in answer.get("runs", [])}

    def stop_run(self, run: str) -> None:
        """Stop a run: its ServerApp ends within seconds, a site's training at its own end."""
        self._ask(["stop", run, CONNECTION], f"Flower did not stop run {run}")

    def last_error(self, run: str) -> str:
        """Return the line of a run's log that says why it failed."""
        return last_error(self._call(["log", run, CONNECTION, "--show"]).stdout)

    def build(self, app: Path, folder: Path) -> Path:
        """Write the app's bundle, the very bytes that `start_run` ships, into an empty folder."""
        result = self._call(["build", "--app", str(app)], folder)
        bundles = list(folder.glob("*.fab"))
        if len(bundles) != 1:
            raise FederationError(f"Flower built no bundle: {last_error(result.stdout)}")
        return bundles[0]

    def register(self, public_key: Path, name: str) -> str:
        """Let the node with this key join; return its id."""
        arguments = ["supernode", "register", str(public_key), CONNECTION, "--name", name]
        answer = self._ask(arguments, f"Flower did not register {name}")
        return str(answer["node-id"])

    def unregister(self, node: str) -> None:
        """Refuse a node from now on."""
        self._ask(["supernode", "unregister", node, CONNECTION], f"node {node} stays registered")

    def nodes(self) -> dict[str, str]:
        """Return the status of every node by id: registered, online, offline or unregistered."""
        arguments = ["supernode", "list", CONNECTION, "--verbose"]
        answer = self._ask(arguments, "Flower does not list its nodes")
        return {str(node["node-id"]): str(node["status"]) for node in answer.get("nodes", [])}

    def _ask(self, arguments: list[str], problem: str) -> dict[str, Any]:
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
            # By the environment: a command line is everybody's to read.
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
                f"the SuperLink gave no answer to `flwr {arguments[0]}` within "
                f"{CALL_TIMEOUT_S:.0f} s; see its log"
            ) from None


def connect(folder: Path, address: str, ca: Path | None = None, credential: str = "") -> Flower:
    """Write Flower's configuration for one SuperLink and return the way to it.

    Args:
        folder: Flower's home, made if absent.
        address: HOST:PORT of the SuperLink.
        ca: who signed its certificate; None for a SuperLink without TLS, in a simulation.
        credential: see `Flower`.
    """
    proof = f"root-certificates = {json.dumps(str(ca))}" if ca else "insecure = true"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.toml").write_text(
        f'[superlink]\ndefault = "{CONNECTION}"\n\n'
        f"[superlink.{CONNECTION}]\naddress = {json.dumps(address)}\n{proof}\n"
    )
    environment = {**flower_environment(), "FLWR_HOME": str(folder), "FEDVITALS_HOME": str(home())}
    # The services and the apps that they start have no use for it.
    environment.pop(operators.VARIABLE, None)
    return Flower(folder, environment, credential)


def pairs(values: Mapping[str, Any]) -> str:
    """Write settings as Flower's command line takes them: TOML values, separated by blanks."""
    return " ".join(f"{key}={json.dumps(value)}" for key, value in values.items())


def last_error(text: str) -> str:
    """Return the last line of a log that speaks of an error, or its last line."""
    lines = [line.strip(" │") for line in text.splitlines() if line.strip(" │╭╮╰╯─")]
    errors = [line for line in lines if "Error" in line or "error" in line]
    return (errors or lines or ["no output"])[-1][:500]
