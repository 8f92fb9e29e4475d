"""The gate with real processes: what a hostile app tries to take out of a site is not on the wire.

A SuperLink with TLS and node authentication, a node of ours behind a recording proxy, and an app
bundle that makes one attempt a message.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from flwr.supercore.protobuf.constants import PROTOBUF_MEDIA_TYPE

from client.config.node_section import Address
from client.config.site_config import load_site_config
from client.egress.audit.hash_chain import read_entries, verify_log
from client.node.health import ask_health
from client.policy.policy import load_policy
from tests.integration.hostile_app import CASES, MARKER
from tests.integration.setup.deployed import shipped_settings
from tests.integration.setup.gate_setting import (
    BIN,
    REPOSITORY,
    environment,
    make_app,
    make_certificates,
    make_node_key,
    running,
    wait_for_port,
)
from tests.integration.setup.tls_proxy import TlsProxy
from tests.samples.approvals import STUDY, UNTIL
from tests.samples.ports import free_port, free_ports

pytestmark = pytest.mark.slow

RUN_S = 240.0
PROTOBUF = {"content-type": PROTOBUF_MEDIA_TYPE, "accept": PROTOBUF_MEDIA_TYPE}
POLICY = r"""# The site's own rule. This comment stays.
[adapter]
tensors = 'base_model\.model\.[a-z.]{1,100}\.lora_[AB]\.weight'
max-rank = 8
max-bytes = 100000
max-norm = 10.0
[metrics]
loss = 3
steps = "exact"
patients = -1
windows = -2
"seconds.training" = 0
"seconds.validation" = 0
[join]
SETTINGS
[limits]
min-patients = 0
rounds-per-day = 100
evaluations-per-day = 100
joins-per-day = 100
errors-per-day = 100
[privacy]
required = false
max-epsilon = 8.0
max-delta = 1e-5
"""


@dataclass
class Setting:
    """Setup of the cases: a coordinator, a site whose node runs, and the replies received."""

    folder: Path
    proxy: TlsProxy
    health: Address

    @property
    def audit(self) -> Path:
        return self.folder / "state" / "audit.jsonl"

    def flwr(self, *arguments: str) -> str:
        done = subprocess.run(
            [str(BIN / "flwr"), *arguments],
            env=environment(self.folder),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def run(self, app: Path, out: Path, cases: str = "") -> dict[str, Any]:
        settings = f'out="{out}" data="{cases}"'
        self.flwr("run", str(app), "test", "-c", settings)
        deadline = time.monotonic() + RUN_S
        while not out.is_file():
            assert time.monotonic() < deadline, (self.folder / "superlink.log").read_text()[-4000:]
            time.sleep(0.5)
        time.sleep(0.2)
        outcome: dict[str, Any] = json.loads(out.read_text())
        return outcome


@pytest.fixture(scope="module")
def setting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Setting]:
    folder = tmp_path_factory.mktemp("gate")
    link, proxied, port = free_ports(3)
    health = Address("127.0.0.1", port)
    make_certificates(folder)
    make_node_key(folder / "node.key")
    write_settings(folder, link, proxied, health)
    proxy = TlsProxy(proxied, link, folder / "server.crt", folder / "server.key", folder / "ca.crt")
    shared = Setting(folder, proxy, health)
    command = [str(BIN / "flower-superlink"), "--host", "127.0.0.1", "--port", str(link)]
    command += ["--ssl-certfile", "server.crt", "--ssl-keyfile", "server.key"]
    command += ["--ssl-ca-certfile", "ca.crt", "--enable-supernode-auth"]
    command += ["--database", "state.db", "--disable-runtime-dependency-installation"]
    env = environment(folder, HOSTILE_STARTED=str(folder / "state" / "started"))
    with running(command, folder / "superlink.log", env, folder) as superlink:
        wait_for_port(link, superlink, folder / "superlink.log")
        shared.flwr("supernode", "register", str(folder / "node.key.pub"), "test", "--name", "h1")
        approve(folder, build(folder, make_app(folder)))
        node = [sys.executable, "-m", "client", "node", "--config", str(folder / "site.toml")]
        with running(node, folder / "node.out", env) as process:
            deadline = time.monotonic() + 90
            while not ask_health(health, 1.0):
                assert process.poll() is None, (folder / "node.out").read_text()
                assert time.monotonic() < deadline, (folder / "node.jsonl").read_text()
                time.sleep(0.3)
            yield shared
    proxy.close()


def write_settings(folder: Path, link: int, proxied: int, health: Address) -> None:
    (folder / "flwr").mkdir()
    (folder / "flwr" / "config.toml").write_text(
        f'[superlink]\ndefault = "test"\n[superlink.test]\naddress = "127.0.0.1:{link}"\n'
        f'root-certificates = "{folder / "ca.crt"}"\n'
    )
    (folder / "policy.toml").write_text(POLICY.replace("SETTINGS", shipped_settings()))
    (folder / "site.toml").write_text(
        '[site]\nid = "hosp1"\ntable = "absent.parquet"\nstate = "state"\npolicy = "policy.toml"\n'
        f'[server]\naddress = "localhost:{proxied}"\nca = "ca.crt"\n'
        f'[node]\nkey = "node.key"\nisolation = "subprocess"\nhealth = "{health}"\n'
        f'client-api = "127.0.0.1:{free_port()}"\n[log]\nfile = "node.jsonl"\n'
    )


def build(folder: Path, app: Path) -> Path:
    """The bundle as `flwr run` will ship it: its bytes depend on nothing but its files."""
    done = subprocess.run(
        [str(BIN / "flwr"), "build", "--app", str(app)],
        env=environment(folder),
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = folder.glob("*.fab")
    return built


def approve(folder: Path, bundle: Path) -> None:
    command = [sys.executable, "-m", "client", "approve", str(bundle), "--yes"]
    command += ["--policy", str(folder / "policy.toml"), "--by", "the test"]
    command += ["--study", STUDY, "--until", UNTIL]
    done = subprocess.run(
        command,
        env=environment(folder),
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert (folder / "policy.toml").read_text().startswith("# The site's own rule.")


@pytest.fixture(scope="module")
def outcome(setting: Setting) -> dict[str, Any]:
    return setting.run(setting.folder / "hostile", setting.folder / "outcome.json")


def entries(setting: Setting) -> dict[int, dict[str, Any]]:
    """The audit log of the hostile run, by round: each case is a round of its own."""
    return {
        entry["round"]: entry for entry in read_entries(setting.audit) if entry["run"] == "ab12"
    }


def test_what_may_leave_leaves_rounded(setting: Setting, outcome: dict[str, Any]) -> None:
    honest = outcome["honest"]
    assert honest["records"] == ["adapter", "report", "round"]
    assert honest["metrics"] == {"loss": 0.123}
    assert honest["round"] == {"site": "hosp1", "round": 1, "run": "ab12"}
    entry = entries(setting)[1]
    assert entry["decision"] == "sent"
    assert entry["adapter"]["rank"] == 8
    assert [name for name, _, _ in entry["adapter"]["tensors"]] == ["A.0", "B.0"]


@pytest.mark.parametrize(
    ("case", "reason"),
    [
        ("raw table", "record"),
        ("renamed tensor", "adapter"),
        ("extra array", "record"),
        ("unknown metric", "metric"),
        ("long string", "round"),
        ("question repeated", "record"),
    ],
)
def test_an_attempt_is_refused_and_named(
    setting: Setting, outcome: dict[str, Any], case: str, reason: str
) -> None:
    assert outcome[case] == {"code": 1002, "reason": "refused by the site's policy"}
    entry = entries(setting)[CASES.index(case) + 1]
    assert (entry["decision"], entry["reason"]) == ("refused", reason)


@pytest.mark.parametrize("case", ["error text", "exception"])
def test_the_text_of_an_error_stays(setting: Setting, outcome: dict[str, Any], case: str) -> None:
    assert outcome[case] == {"code": 1001, "reason": "the app failed at this site"}
    assert entries(setting)[CASES.index(case) + 1]["decision"] == "error"


def test_nothing_of_it_is_on_the_wire(setting: Setting, outcome: dict[str, Any]) -> None:
    wire = setting.proxy.recorded
    # The proxy does hear the site: the answers that may leave are there.
    assert wire.count(b"/v1/fleet/push-messages") == len(CASES)
    assert b"fedvitals-adapter/1" in wire
    assert MARKER.encode() not in wire
    assert b"MEIER" not in wire
    assert np.float32(81.4375).tobytes() * 4 not in wire  # of the raw table
    assert MARKER not in (setting.folder / "node.jsonl").read_text()


def test_the_audit_log_is_whole_afterwards(setting: Setting, outcome: dict[str, Any]) -> None:
    assert verify_log(setting.audit).lines >= len(CASES)


def test_a_bundle_that_is_not_approved_never_starts(
    setting: Setting, outcome: dict[str, Any], tmp_path: Path
) -> None:
    started = setting.folder / "state" / "started"
    assert started.exists()
    started.unlink()
    other = make_app(tmp_path, "# One comment more, and it is another bundle.\n")
    answer = setting.run(other, tmp_path / "outcome.json", cases="honest")["honest"]
    assert answer == {"code": 7, "reason": "the app bundle is not approved at this site"}
    assert not started.exists()
    last = list(read_entries(setting.audit))[-1]
    assert (last["decision"], last["reason"]) == ("refused", "bundle")
    assert "not approved" in last["detail"]
    assert last["bundle"] not in load_policy(setting.folder / "policy.toml").bundles


def test_only_the_app_with_the_secret_gets_work(setting: Setting) -> None:
    address = load_site_config(setting.folder / "site.toml").node.client_api
    for path, status in (
        ("/v1/runtime/acquire-task", 401),
        ("/v1/runtime/create-task", 403),
        ("/v1/runtime/push-logs", 403),
        ("/responses", 403),
        ("/docs", 403),
    ):
        reply = httpx.post(f"http://{address}{path}", content=b"", headers=PROTOBUF)
        assert reply.status_code == status, (path, reply.status_code)
