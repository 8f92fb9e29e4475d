"""A federation on loopback as hospitals would have it: certificates, services, nodes, apps."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from common.backbones.loading import load_backbone
from common.config.run_config import FederationConfig, RunConfig
from server.runs.run_folder import read_rounds
from simulation.run import federate
from tests.integration.setup.processes import call, children_of, kill, wait_for
from tests.samples.approvals import STUDY, UNTIL
from tests.samples.ports import free_ports

REPOSITORY = Path(__file__).resolve().parents[3]
APP = ("client", "common", "server", "pyproject.toml", "LICENSE")
BIN = Path(sys.executable).absolute().parent
CERTS = REPOSITORY / "deploy" / "certs"


WITHOUT_PRIVACY = {"required = true": "required = false", "budget-epsilon = 10.0\n": ""}
"""Of policy.toml: text and what stands for it where runs without privacy are accepted."""


def declared(backbones: Mapping[str, str], patients: int = 10) -> dict[str, str]:
    """Return the changes of site.toml by which a site of the tests declares its table."""
    digests = "\n".join(f'"{name}" = "{digest}"' for name, digest in backbones.items())
    return {
        "patients = 0": f"patients = {patients}",
        'source = ""': 'source = "synthetic"',
        'rule = ""': 'rule = "random walks"',
        '# "chronos-bolt-nano" = "…"': digests,
    }


def script(name: str, *arguments: str | Path) -> str:
    """Run a script of deploy/certs; return what it prints."""
    command = [str(CERTS / name), *map(str, arguments)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout


def request(role: str, name: str, folder: Path, *more: str) -> str:
    """Make keys and a request; return the fingerprint that is read over the telephone."""
    said = script("request.sh", role, name, folder, *more)
    found = re.search(r"^fingerprint (\S+)$", said, re.MULTILINE)
    assert found, said
    return found[1]


def provision(
    authority: Path, role: str, name: str, folder: Path, *more: str, days: str = "365"
) -> Path:
    """Make keys, have them signed, and put what comes back beside them; return the folder."""
    fingerprint = request(role, name, folder, *more)
    signing = (folder / "request", "--fingerprint", fingerprint, "--days", days)
    script("approve.sh", authority, *signing)
    for file in ("tls.crt", "ca.crt"):
        (folder / "private" / file).write_bytes((authority / "issued" / name / file).read_bytes())
    return folder / "private"


@dataclass
class Site:
    """A hospital: its keys, its node and its app's process, by the commands that containers run."""

    name: str
    keys: Path
    table: Path
    superlink: str
    environment: dict[str, str]
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def config(self) -> Path:
        return self.keys.parent / "site.toml"

    @property
    def policy(self) -> Path:
        return self.keys.parent / "policy.toml"

    def configure(self, backbone: Path | None = None, ca: str = "private/ca.crt") -> None:
        """Write site.toml and policy.toml as deploy/site has them, with this site's own values.

        Args:
            backbone: the frozen model that runs may use; None = no run gets that far.
            ca: signed what the node talks to.
        """
        name = "any" if backbone is None else str(backbone)
        digest = "0" * 64 if backbone is None else load_backbone(name).digest
        api, health = free_ports(2)
        own = {
            'id = "hospital-1"': f'id = "{self.name}"',
            "/data/site.parquet": str(self.table),
            "/var/lib/fedvitals": "state",
            "gateway:9443": self.superlink,
            "private/gateway.crt": ca,
            "client-api:9094": f"127.0.0.1:{api}",
            "127.0.0.1:9095": f"127.0.0.1:{health}",
            **declared({name: digest}),
        }
        self.config.write_text(replaced("site.toml", own))
        allowed = {
            "patients = -1": 'patients = "exact"',
            "windows = -2": 'windows = "exact"',
            "texts = []": f'texts = ["synthetic", "random walks", "{digest}"]',
            "min-patients = 50": "min-patients = 5",
            "amazon/chronos-bolt-small": name,
            **WITHOUT_PRIVACY,
        }
        # Rounded numbers would weigh the sites otherwise than the simulation does.
        self.policy.write_text(replaced("policy.toml", allowed))

    def start(self, *names: str) -> None:
        """Start processes by name: the node, the app."""
        for name in names:
            command = self.command(name, "--config", str(self.config))
            # As systemd and container engines do: a node that Flower still counts as there is
            # turned away, and ends.
            command = ["bash", "-c", 'while true; do "$@"; sleep 5; done', "restart", *command]
            with (self.keys / f"{name}.log").open("ab") as log:
                self.processes[name] = subprocess.Popen(
                    command,
                    start_new_session=True,
                    env=self.environment,
                    stdout=log,
                    stderr=log,
                )

    def kill(self, name: str) -> None:
        """Kill the node or the app's process, which is then started again."""
        kill(children_of(self.processes[name].pid))

    @contextmanager
    def started(self, *names: str) -> Iterator[None]:
        """Run the node and the app's process, or those named, for as long as the block lasts."""
        self.start(*(names or ("node", "app")))
        try:
            yield
        finally:
            self.stop()

    def stop(self) -> None:
        """End both, and all that they started."""
        for process in self.processes.values():
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-P", "-m", "client", *arguments]

    def client(self, *arguments: str, code: int = 0) -> str:
        """Call a command of the site's; return what it prints."""
        return call(self.command(*arguments), self.environment, code)

    def stopped_app(self) -> int:
        """Stop the app in the middle of a new message; return its process.

        The last message's process ends with a delay. One that has not taken its message yet would,
        if killed, be started again by Flower: one with half a second of the processor has. Where
        one has ended before that was seen, the next message is waited for.
        """
        before = set(self._apps())
        wait_for(f"the app works at {self.name}", lambda: set(self._apps()) - before)
        try:
            app = (set(self._apps()) - before).pop()
            process = psutil.Process(app)
            wait_for(f"{self.name} has its message", lambda: process.cpu_times().user > 0.5)
            process.suspend()
        except (KeyError, psutil.NoSuchProcess):
            return self.stopped_app()
        return app

    @contextmanager
    def app_paused(self) -> Iterator[None]:
        """Let the app begin no message for as long as the block lasts; one in work goes on."""
        wait_for(f"the app is up at {self.name}", self._fork_servers)
        servers = [psutil.Process(server) for server in self._fork_servers()]
        for server in servers:
            server.suspend()
        try:
            yield
        finally:
            for server in servers:
                server.resume()

    def _fork_servers(self) -> list[int]:
        superexec = children_of(self.processes["app"].pid)
        return [child for process in superexec for child in children_of(process)]

    def _apps(self) -> list[int]:
        supervisors = [child for server in self._fork_servers() for child in children_of(server)]
        return [child for supervisor in supervisors for child in children_of(supervisor)]


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
        return [sys.executable, "-P", "-m", "server", *arguments, "--config", file]

    def call(self, *arguments: str, code: int = 0) -> str:
        """Call a command of the coordinator's; return what it prints."""
        return call(self.command(*arguments), self.environment, code)

    def status(self) -> dict[str, Any]:
        told: dict[str, Any] = json.loads(self.call("status", "--json"))
        return told

    def stop_run(self) -> None:
        """Stop the run that goes on."""
        runs = self.status()["runs"]
        (number,) = [name for name, state in runs.items() if state == "running"]
        self.call("stop-run", number)

    def bundle(self) -> Path:
        """The app as the sites get it."""
        file = self.folder / "fedvitals.fab"
        if not file.exists():
            app = str(self.folder / "app")
            command = [sys.executable, "-m", "server", "bundle", "--app", app, "--out", str(file)]
            call(command, self.environment, 0)
        return file

    def start_run(self, config: RunConfig) -> subprocess.Popen[str]:
        """Start `python -m server run` with what a configuration has beyond the defaults."""
        defaults = RunConfig().flat()
        pairs = [f"{key}={v}" for key, v in config.flat().items() if v != defaults[key]]
        return subprocess.Popen(
            self.command("run", *(part for pair in pairs for part in ("-c", pair))),
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )


def make_coordinator(folder: Path) -> Coordinator:
    """Provision the coordinator; nothing runs yet."""
    authority = folder / "authority"
    script("authority.sh", authority)
    provision(
        authority, "server", "coordinator", folder / "keys", "--san", "DNS:localhost", "--san",
        "IP:127.0.0.1",
    )  # fmt: skip
    copy_app(folder / "app")
    ports = free_ports(3)
    (folder / "server.toml").write_text(
        f'[server]\naddress = "127.0.0.1:{ports[0]}"\nhealth = "127.0.0.1:{ports[1]}"\n'
        f'superexec-health = "127.0.0.1:{ports[2]}"\nstate = "state"\napp = "app"\n'
        '[tls]\ncertificate = "keys/private/tls.crt"\nkey = "keys/private/tls.key"\n'
        'ca = "keys/private/ca.crt"\n'
    )
    environment = {
        **os.environ,
        "FEDVITALS_HOME": str(folder / "home"),
        "PYTHONPATH": str(REPOSITORY),
        "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
    }
    return Coordinator(folder, authority, f"localhost:{ports[0]}", environment)


def copy_app(folder: Path) -> None:
    """Copy the folders and files that Flower makes the app's bundle of.

    It looks at every file below the app's folder: four seconds in a checkout with its .venv.
    """
    folder.mkdir()
    for name in APP:
        source = REPOSITORY / name
        if source.is_dir():
            # Other tests may be compiling there just now.
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, folder / name)


def make_site(
    coordinator: Coordinator,
    name: str,
    table: Path,
    backbone: Path | None = None,
    address: str = "",
    days: str = "365",
) -> Site:
    """Provision a site by nothing but its request and the coordinator's answer.

    Args:
        coordinator: who signs.
        name: the site's.
        table: its site table.
        backbone: the frozen model that its policy allows.
        address: where its node finds the coordinator; left out, the SuperLink itself.
        days: of its certificate.
    """
    folder = coordinator.folder / "sites" / name
    keys = provision(coordinator.authority, "site", name, folder, days=days)
    environment = {
        **coordinator.environment,
        "FLWR_HOME": str(folder / "flower"),
        "FEDVITALS_HOME": str(folder / "home"),
        "PATH": os.pathsep.join([str(BIN), os.environ["PATH"]]),
    }
    site = Site(name, keys, table, address or coordinator.address, environment)
    site.configure(backbone)
    return site


def admit(coordinator: Coordinator, site: Site) -> None:
    """Let the site join, and the coordinator's app run at the site."""
    public_key = str(coordinator.authority / "issued" / site.name / "node.pub")
    coordinator.call("sites", "add", site.name, public_key)
    approve(coordinator, site)


def approve(coordinator: Coordinator, site: Site) -> None:
    """Let the coordinator's app run at a site."""
    granted = ["--study", STUDY, "--until", UNTIL]
    bundle = str(coordinator.bundle())
    site.client("approve", bundle, "--yes", "--policy", str(site.policy), *granted)


def replaced(file: str, values: Mapping[str, str]) -> str:
    """A file of deploy/site with other values, each of which has to stand in it."""
    text = (REPOSITORY / "deploy" / "site" / file).read_text()
    for old, new in values.items():
        assert old in text, old
        text = text.replace(old, new)
    return text


def shipped_settings() -> str:
    """The section [settings] of the shipped policy.toml."""
    text = (REPOSITORY / "deploy" / "site" / "policy.toml").read_text()
    return text[text.index("[settings]") : text.index("[limits]")]


def digests(folder: Path) -> list[Any]:
    """The global adapter's SHA-256 after each round of a run folder."""
    return [entry.get("adapter_digest") for entry in read_rounds(folder)]


def usable(folder: Path) -> list[set[str]]:
    """The sites whose replies were used, a round each."""
    return [
        {name for name, site in entry["sites"].items() if "refused" not in site}
        for entry in read_rounds(folder)
    ]


def assert_as_simulated(config: RunConfig, cohort: Path, out: Path) -> None:
    """Run the same settings in the simulation; the adapters have to be the same, byte for byte."""
    federate(RunConfig.parse({**config.flat(), "data": str(cohort), "out": str(out)}))
    real = Path(config.out)
    assert len(digests(out)) == config.rounds + 1
    assert digests(real) == digests(out)
    name = "adapter/adapter_model.safetensors"
    assert (real / name).read_bytes() == (out / name).read_bytes()


def with_federation(config: RunConfig, federation: FederationConfig, rounds: int) -> RunConfig:
    """The configuration with another `federation.*`."""
    flat = RunConfig(federation=federation).flat()
    other = {key: value for key, value in flat.items() if key.startswith("federation.")}
    return RunConfig.parse({**config.flat(), **other, "rounds": rounds})
