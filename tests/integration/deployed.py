"""A federation on loopback as hospitals would have it: certificates, services, nodes, apps."""

from __future__ import annotations

import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).absolute().parent
CERTS = REPOSITORY / "deploy" / "certs"


def free_ports(count: int) -> list[int]:
    """Ports that nothing uses; all different, since they are held until the last is found."""
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def script(name: str, *arguments: str | Path) -> str:
    """Run a script of deploy/certs; return what it prints."""
    command = [str(CERTS / name), *map(str, arguments)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout


def request(role: str, name: str, folder: Path, *more: str) -> str:
    """Make keys and a request; return the fingerprint that is read over the telephone."""
    said = script("request.sh", role, name, folder, *more)
    return re.findall(r"^fingerprint (\S+)$", said, re.MULTILINE)[0]


def provision(authority: Path, role: str, name: str, folder: Path, *more: str) -> Path:
    """Make keys, have them signed, and put what comes back beside them; return the folder."""
    fingerprint = request(role, name, folder, *more)
    script("approve.sh", authority, folder / "request", "--fingerprint", fingerprint)
    for file in ("tls.crt", "ca.crt"):
        (folder / "private" / file).write_bytes((authority / "issued" / name / file).read_bytes())
    return folder / "private"


def wait_for(what: str, condition: Callable[[], object], timeout_s: float = 120.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain until {what}"
        time.sleep(0.1)


@dataclass
class Site:
    """A hospital: its keys, its node and its app's process."""

    name: str
    keys: Path
    table: Path
    api: int
    superlink: str
    environment: dict[str, str]
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def start(self, *names: str) -> None:
        """Start the node and the app's process, or the one of them that is named."""
        commands = {"node": self.node_command(), "app": self._app_command()}
        for name in names or commands:
            with (self.keys / f"{name}.log").open("ab") as log:
                self.processes[name] = subprocess.Popen(
                    commands[name], env=self.environment, stdout=log, stderr=log
                )

    def kill(self, *names: str) -> None:
        for name in names or tuple(self.processes):
            self.processes[name].kill()
            self.processes.pop(name).wait()

    def node_command(self, ca: Path | None = None, key: Path | None = None) -> list[str]:
        settings = {
            "site-id": self.name,
            "data-path": self.table,
            "state-path": self.keys / "state",
        }
        return [
            str(BIN / "flower-supernode"),
            *("--superlink", self.superlink),
            *("--root-certificates", str(ca or self.keys / "ca.crt")),
            *("--auth-supernode-private-key", str(key or self.keys / "node.key")),
            *("--port", str(self.api), "--isolation", "process"),
            *("--superexec-auth-secret-file", str(self.keys / "app.secret")),
            *("--node-config", " ".join(f'{key}="{value}"' for key, value in settings.items())),
        ]

    def _app_command(self) -> list[str]:
        (self.keys / "app.secret").write_bytes(secrets.token_bytes(32))
        (self.keys / "site.toml").write_text(
            f'[site]\nid = "{self.name}"\ntable = "{self.table}"\nstate = "state"\n'
            f'policy = "policy.toml"\n[server]\naddress = "{self.superlink}"\nca = "ca.crt"\n'
            f'[node]\nkey = "node.key"\nclient-api = "127.0.0.1:{self.api}"\n'
            f'secret = "app.secret"\n'
        )
        config = str(self.keys / "site.toml")
        return [sys.executable, "-m", "client", "app", "--config", config]

    def app_children(self) -> list[int]:
        """The processes in which the app works at this moment."""
        server = children_of(self.processes["app"].pid)
        return [child for process in server for child in children_of(process)]


@dataclass
class Coordinator:
    """The coordinator's services and commands."""

    folder: Path
    authority: Path
    address: str
    environment: dict[str, str]

    @property
    def state(self) -> Path:
        return self.folder / "state"

    def command(self, *arguments: str) -> list[str]:
        file = str(self.folder / "server.toml")
        return [sys.executable, "-m", "server", *arguments, "--config", file]

    def call(self, *arguments: str, code: int = 0) -> str:
        """Call a command of the coordinator's; return what it prints."""
        result = subprocess.run(
            self.command(*arguments),
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        assert result.returncode == code, result.stdout + result.stderr
        return result.stdout + result.stderr


def make_coordinator(folder: Path) -> Coordinator:
    """Provision the coordinator; nothing runs yet."""
    authority = folder / "authority"
    script("authority.sh", authority)
    provision(
        authority, "server", "coordinator", folder / "keys", "--san", "DNS:localhost", "--san",
        "IP:127.0.0.1",
    )  # fmt: skip
    ports = free_ports(3)
    (folder / "server.toml").write_text(
        f'[server]\naddress = "127.0.0.1:{ports[0]}"\nhealth = "127.0.0.1:{ports[1]}"\n'
        f'superexec-health = "127.0.0.1:{ports[2]}"\nstate = "state"\n'
        '[tls]\ncertificate = "keys/private/tls.crt"\nkey = "keys/private/tls.key"\n'
        'ca = "keys/private/ca.crt"\n'
    )
    environment = {
        **os.environ,
        "FEDVITALS_HOME": str(folder / "home"),
        "PYTHONPATH": str(REPOSITORY),
        "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
        # A second that every message of a test would wait longer.
        "FLWR_SUPEREXEC_TASK_POLL_INTERVAL": "0.1",
    }
    return Coordinator(folder, authority, f"localhost:{ports[0]}", environment)


def make_site(coordinator: Coordinator, name: str, table: Path) -> Site:
    """Provision a site by nothing but its request and the coordinator's answer."""
    folder = coordinator.folder / "sites" / name
    keys = provision(coordinator.authority, "site", name, folder)
    environment = {
        **coordinator.environment,
        "FLWR_HOME": str(folder / "flower"),
        "FEDVITALS_HOME": str(folder / "home"),
        "PATH": os.pathsep.join([str(BIN), os.environ["PATH"]]),
    }
    return Site(name, keys, table, free_ports(1)[0], coordinator.address, environment)


def children_of(pid: int) -> list[int]:
    """The processes that a process started."""
    result = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True, check=False
    )
    return [int(line) for line in result.stdout.split()]


def kill(pids: Sequence[int]) -> None:
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
