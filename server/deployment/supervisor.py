"""SuperLink and SuperExec side by side, so that a run outlives the death of either.

The durable arrangement: the SuperLink keeps its state in a database and starts nothing itself; the
SuperExec, apart from it and known to it by a secret, starts the ServerApp. When the SuperLink dies
in the middle of a round it is started anew on the same database, and the run goes on.
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

from common.atomic_io import write_text
from common.backbones.weights_store import install_packaged
from common.errors import FederationError, UsageError
from common.flower.environment import executable
from server.deployment import control_log
from server.deployment.flwr_subprocess import Flower, connect, last_error
from server.deployment.operators import (
    SERVICES,
    SERVICES_VARIABLE,
    first_operator,
    hashed,
    read_credential,
)
from server.deployment.server_config import ServerConfig
from server.deployment.service_process import START_TIMEOUT_S, Service, answers
from server.deployment.site_keys import SiteKeys

PID_FILE = "services.pid"
LOCK_FILE = "services.lock"
_LOOK_S = 0.5
_RESTARTS = 5
_RESTARTS_WITHIN_S = 600.0
_STOP_TIMEOUT_S = 60.0

Say = Callable[[str], None]


def flower_of(config: ServerConfig, operator: Path | None = None) -> Flower:
    """Return an operator's way to the SuperLink of these settings.

    Args:
        config: the coordinator's settings.
        operator: file of the operator's credential; see `operators.read_credential`.

    Raises:
        UsageError: where there is no credential.
    """
    return connect(config.flower_home, config.address, config.ca, read_credential(operator))


def serve(config: ServerConfig, say: Say) -> None:
    """Run the services until a signal ends them, restarting one that dies.

    Args:
        config: the coordinator's settings.
        say: called with each line for the log.

    Raises:
        FederationError: where they do not start, or one dies again and again.
        UsageError: where they run already, or their state cannot be written.
    """
    prepare(config, say)
    with _sole_owner(config.state), _until_signal() as stopped:
        if answers(config.address):
            raise UsageError(f"something listens at {config.address} already; end it first")
        # The services' own, for as long as they run: they register the sites' keys.
        credential = f"{SERVICES}.{secrets.token_urlsafe(32)}"
        flower = connect(config.flower_home, config.address, config.ca, credential)
        with _Pair(config, flower, say) as pair:
            SiteKeys(config.state, flower).sync(say)
            write_text(config.state / PID_FILE, f"{json.dumps(pair.pids())}\n")
            say(f"ready at {config.address}; sites reach it through the reverse proxy")
            while not stopped():
                time.sleep(_LOOK_S)
                if pair.mend():
                    write_text(config.state / PID_FILE, f"{json.dumps(pair.pids())}\n")
            say("stopping")


def serve_in_background(config: ServerConfig, file: Path, say: Say) -> None:
    """Start `serve` in a process of its own and return when it is ready.

    Args:
        config: the coordinator's settings.
        file: where they stand.
        say: called with a line where a first operator is made.

    Raises:
        FederationError: where it ends first.
        UsageError: where the services run already.
    """
    if running(config.state):
        raise UsageError(f"the services of {config.state} run already; stop them first")
    prepare(config, say)
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
    """Return the ids of the services' processes by name, empty where they do not run."""
    try:
        with (state / LOCK_FILE).open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return {}
    except FileNotFoundError:
        return {}
    except BlockingIOError:  # somebody holds it: the services
        pass
    try:
        pids: dict[str, int] = json.loads((state / PID_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):  # not ready yet
        return {}
    return pids


def stop(state: Path) -> bool:
    """End the services and wait until they have ended; False where none ran.

    Raises:
        FederationError: where they do not end.
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

    def __init__(self, config: ServerConfig, flower: Flower, say: Say) -> None:
        self._config = config
        self._flower = flower
        self._say = say
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

    def mend(self) -> bool:
        """Start anew what has died; return whether something had."""
        dead = {name: s.ended() for name, s in self._services.items() if s.ended() is not None}
        for name, code in dead.items():
            self._note_death(name, code)
            # What it left behind goes on: a ServerApp waits for the SuperLink to come back.
            self._dead.append(self._services[name])
            self._start(name)
        return bool(dead)

    def _start(self, name: str) -> None:
        command, address = _commands(self._config)[name]
        log = self._config.state / "logs" / f"{name}.log"
        own = {SERVICES_VARIABLE: hashed(self._flower.credential)} if name == "superlink" else {}
        # The server's app, which the SuperExec starts, writes down who started its run.
        own[control_log.VARIABLE] = str(control_log.control_log(self._config.state))
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
        self._say(f"the {name} ended with {code}; starting it anew")

    def _end(self) -> None:
        for service in [*self._dead, *reversed(self._services.values())]:
            service.end()


def _commands(config: ServerConfig) -> dict[str, tuple[list[str], str]]:
    """Return each service's command, and the address that answers once it is up."""
    host, _, port = config.address.rpartition(":")
    secret = str(_secret(config))
    superlink = [
        # Flower's own, behind our guard; nothing is imported from the folder it is started in.
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
        str(executable("flower-superexec")),
        *("--runtime-api-address", config.address, "--root-certificates", str(config.ca)),
        *("--superexec-auth-secret-file", secret),
        *("--health-server-address", config.superexec_health),
    ]
    return {
        "superlink": (superlink, config.address),
        "superexec": (superexec, config.superexec_health),
    }


def prepare(config: ServerConfig, say: Say) -> None:
    """Make the state folder, which nobody else reads, the secret in it, and a first operator.

    Raises:
        UsageError: where the folder cannot be written.
    """
    try:
        config.state.mkdir(parents=True, exist_ok=True)
        config.state.chmod(0o700)
        secret = _secret(config)
        if not secret.exists():
            secret.touch(mode=0o600)
            secret.write_bytes(secrets.token_bytes(32))
    except OSError as error:
        raise UsageError(
            f"{config.state} cannot be written ({error.strerror or error}); set server.state to "
            "a folder that can"
        ) from error
    install_packaged()
    first_operator(config.state, say)


def _secret(config: ServerConfig) -> Path:
    return config.state / "superexec.secret"


@contextmanager
def _sole_owner(state: Path) -> Iterator[None]:
    """Hold the lock that tells others that the services run."""
    with (state / LOCK_FILE).open("wb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(f"the services of {state} run already; stop them first") from None
        try:
            yield
        finally:
            (state / PID_FILE).unlink(missing_ok=True)


@contextmanager
def _until_signal() -> Iterator[Callable[[], bool]]:
    """Let SIGTERM and SIGINT ask for the end instead of cutting it short."""
    asked: list[int] = []

    def note(number: int, _frame: FrameType | None) -> None:
        asked.append(number)

    before = {number: signal.signal(number, note) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield lambda: bool(asked)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
