"""Supervisor of SuperLink and SuperExec: a run survives the death of either.

The SuperLink keeps its state in a database and starts no processes itself; the SuperExec, a process
of its own that authenticates with a secret, starts the ServerApp. If the SuperLink dies during a
round, it is restarted on the same database, and the run continues.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from common.backbones.weights_store import install_packaged
from common.errors import FederationError, UsageError
from common.files.atomic_io import atomic_file, write_text
from common.interrupts import heeded_signals
from server.deployment import control_log
from server.deployment.flwr_subprocess import Flower, connect, last_error
from server.deployment.operators import (
    SERVICES,
    SERVICES_VARIABLE,
    add_first_operator,
    hashed,
    read_credential,
)
from server.deployment.server_config import ServerConfig
from server.deployment.service_process import START_TIMEOUT_S, Service, accepts_connections
from server.deployment.site_keys import SiteKeys

PID_FILE = "services.pid"
LOCK_FILE = "services.lock"
_LOOK_S = 0.5
_RESTARTS = 5
_RESTARTS_WITHIN_S = 600.0
_STOP_TIMEOUT_S = 60.0

Report = Callable[[str], None]


def flower_of(config: ServerConfig, operator: Path | None = None) -> Flower:
    """Return an operator's client of the SuperLink of these settings.

    Args:
        config: the coordinator's settings.
        operator: file of the operator's credential; see `operators.read_credential`.

    Raises:
        UsageError: there is no credential.
    """
    return connect(config.flower_home, config.address, config.ca, read_credential(operator))


def serve(config: ServerConfig, report: Report) -> None:
    """Run the services until a signal ends them, and restart one that dies.

    Args:
        config: the coordinator's settings.
        report: called with each line for the log.

    Raises:
        FederationError: they do not start, or one dies repeatedly.
        UsageError: they are running already, or their state cannot be written.
    """
    prepare_state(config, report)
    with _sole_owner(config.state), _until_signal() as stopped:
        if accepts_connections(config.address):
            raise UsageError(f"another process listens at {config.address}; stop it first")
        # The services' own, until they stop: they register the sites' keys.
        credential = f"{SERVICES}.{secrets.token_urlsafe(32)}"
        flower = connect(config.flower_home, config.address, config.ca, credential)
        with _Pair(config, flower, report) as pair:
            SiteKeys(config.state, flower).sync(report)
            write_text(config.state / PID_FILE, f"{json.dumps(pair.pids())}\n")
            report(f"ready at {config.address}; sites reach it through the reverse proxy")
            while not stopped():
                time.sleep(_LOOK_S)
                if pair.restart_dead():
                    write_text(config.state / PID_FILE, f"{json.dumps(pair.pids())}\n")
            report("stopping")


def serve_in_background(config: ServerConfig, file: Path, report: Report) -> None:
    """Start `serve` in a process of its own and return when it is ready.

    Args:
        config: the coordinator's settings.
        file: the file of these settings.
        report: called with a line if a first operator is added.

    Raises:
        FederationError: the process ends first, or takes too long.
        UsageError: the services are running already.
    """
    if running(config.state):
        raise UsageError(f"the services of {config.state} are running already; stop them first")
    prepare_state(config, report)
    log = config.state / "logs" / "services.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-P", "-m", "server", "start", "--config", str(file.absolute())]
    with log.open("wb") as output:
        process = subprocess.Popen(  # noqa: S603 - our own command, no shell
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        )
    deadline = time.monotonic() + 2 * START_TIMEOUT_S
    while time.monotonic() < deadline and process.poll() is None:
        if running(config.state):
            return
        time.sleep(_LOOK_S)
    process.terminate()
    raise FederationError(f"the services did not start: {last_error(log.read_text())}")


def running(state: Path) -> dict[str, int]:
    """Return the ids of the services' processes by name, empty if they are not running."""
    try:
        with (state / LOCK_FILE).open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return {}
    except FileNotFoundError:
        return {}
    except BlockingIOError:  # the services hold it
        pass
    try:
        pids: dict[str, int] = json.loads((state / PID_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):  # not ready yet
        return {}
    return pids


def stop(state: Path) -> bool:
    """Stop the services and wait for their end; return False if none was running.

    Raises:
        FederationError: they do not end.
    """
    pids = running(state)
    if not pids:
        return False
    with contextlib.suppress(ProcessLookupError):
        os.kill(pids["services"], signal.SIGTERM)
    deadline = time.monotonic() + _STOP_TIMEOUT_S
    while running(state):
        if time.monotonic() > deadline:
            raise FederationError(f"process {pids['services']} does not end; kill it")
        time.sleep(_LOOK_S)
    return True


class _Pair:
    """SuperLink and SuperExec, each restarted on its own when it dies."""

    def __init__(self, config: ServerConfig, flower: Flower, report: Report) -> None:
        self._config = config
        self._flower = flower
        self._report = report
        self._services: dict[str, Service] = {}
        self._dead: list[Service] = []
        self._deaths: deque[float] = deque()

    def __enter__(self) -> _Pair:
        try:
            for name in ("superlink", "superexec"):
                self._start(name)
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def pids(self) -> dict[str, int]:
        """The process ids by name; `services` is this process."""
        return {"services": os.getpid(), **{n: s.pid for n, s in self._services.items()}}

    def restart_dead(self) -> bool:
        """Restart each service that has died; return True if any had."""
        dead = {name: s.ended() for name, s in self._services.items() if s.ended() is not None}
        for name, code in dead.items():
            self._note_death(name, code)
            # Its children keep running: a ServerApp waits for the SuperLink to come back.
            self._dead.append(self._services[name])
            self._start(name)
        return bool(dead)

    def _start(self, name: str) -> None:
        command, address = _commands(self._config)[name]
        log = self._config.state / "logs" / f"{name}.log"
        own = {SERVICES_VARIABLE: hashed(self._flower.credential)} if name == "superlink" else {}
        # The server's app, which the SuperExec starts, records the operator who started its run.
        own[control_log.LOG_VARIABLE] = str(control_log.control_log(self._config.state))
        service = Service(command, address, {**self._flower.environment, **own}, log)
        self._services[name] = service
        service.await_port()

    def _note_death(self, name: str, code: int | None) -> None:
        now = time.monotonic()
        self._deaths.append(now)
        while self._deaths[0] < now - _RESTARTS_WITHIN_S:
            self._deaths.popleft()
        log = self._services[name].log
        if len(self._deaths) > _RESTARTS:
            raise FederationError(f"the {name} died {_RESTARTS} times within 10 minutes; see {log}")
        self._report(f"the {name} ended with {code}; restarting it")

    def _end(self) -> None:
        for service in [*self._dead, *reversed(self._services.values())]:
            service.end()


def _commands(config: ServerConfig) -> dict[str, tuple[list[str], str]]:
    """Return each service's command, and the address that answers once it is up."""
    host, _, port = config.address.rpartition(":")
    secret = str(_secret(config))
    superlink = [
        # Flower's SuperLink behind our guard; -P: no imports from the working directory.
        *(sys.executable, "-P", "-m", "server.superlink.superlink", str(config.state)),
        *("--host", host.strip("[]"), "--port", port),
        *("--ssl-certfile", str(config.certificate), "--ssl-keyfile", str(config.key)),
        *("--ssl-ca-certfile", str(config.ca)),
        "--enable-supernode-auth",
        *("--database", str(config.state / "superlink.db")),
        *("--isolation", "process", "--superexec-auth-secret-file", secret),
        "--disable-runtime-dependency-installation",
        *("--health-server-address", config.health),
    ]
    superexec = [
        *(sys.executable, "-P", "-m", "server.superlink.superexec"),
        *("--runtime-api-address", config.address, "--root-certificates", str(config.ca)),
        *("--superexec-auth-secret-file", secret),
        *("--health-server-address", config.superexec_health),
    ]
    return {
        "superlink": (superlink, config.address),
        "superexec": (superexec, config.superexec_health),
    }


def prepare_state(config: ServerConfig, report: Report) -> None:
    """Create the state folder, private to its owner, with its secret and a first operator.

    Raises:
        UsageError: the folder cannot be written.
    """
    try:
        config.state.mkdir(parents=True, exist_ok=True)
        config.state.chmod(0o700)
        secret = _secret(config)
        if not secret.exists():
            with atomic_file(secret) as partial:
                partial.touch(mode=0o600)
                partial.write_bytes(secrets.token_bytes(32))
    except OSError as error:
        raise UsageError(
            f"{config.state} cannot be written ({error.strerror or error}); set server.state to "
            "a writable folder"
        ) from error
    install_packaged()
    add_first_operator(config.state, report)


def _secret(config: ServerConfig) -> Path:
    return config.state / "superexec.secret"


@contextmanager
def _sole_owner(state: Path) -> Iterator[None]:
    """Hold the lock that marks the services as running."""
    with (state / LOCK_FILE).open("wb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(
                f"the services of {state} are running already; stop them first"
            ) from None
        try:
            yield
        finally:
            (state / PID_FILE).unlink(missing_ok=True)


@contextmanager
def _until_signal() -> Iterator[Callable[[], bool]]:
    """Turn a signal into a request to stop, for an orderly end."""
    received: list[int] = []

    def note(number: int, _frame: FrameType | None) -> None:
        received.append(number)

    before = {number: signal.signal(number, note) for number in heeded_signals()}
    try:
        yield lambda: bool(received)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
