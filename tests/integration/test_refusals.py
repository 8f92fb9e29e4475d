"""Sites that may not join: each ends with one line that says why, and its own exit code."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from common.errors import NodeError
from tests.integration.setup.deployed import Coordinator, Site, admit, make_site, provision, script
from tests.integration.setup.tls_proxy import TlsProxy
from tests.samples.ports import free_port

pytestmark = pytest.mark.slow
HOUR_S = 3600


@pytest.fixture
def table(deployed_cohort: Path) -> Path:
    return deployed_cohort / "sites" / "ccu.parquet"


@pytest.fixture
def expired(coordinator: Coordinator, tmp_path: Path) -> Iterator[str]:
    """Address of a coordinator whose certificate ran out yesterday."""
    names = ("--san", "DNS:localhost")
    keys = provision(coordinator.authority, "server", "old", tmp_path / "old", *names, days="-1")
    upstream = int(coordinator.address.rpartition(":")[2])
    port = free_port()
    proxy = TlsProxy(port, upstream, keys / "tls.crt", keys / "tls.key", keys / "ca.crt")
    yield proxy.address
    proxy.close()


def refusal(site: Site, more: Mapping[str, str] | None = None) -> str:
    """Start a node that has to end as refused; return the one line that says why."""
    process = subprocess.run(
        site.command("node", "--config", str(site.config)),
        env={**site.environment, **(more or {})},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    said = process.stdout + process.stderr
    assert process.returncode == NodeError.exit_code, said
    lines = [line for line in said.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, said
    assert "Traceback" not in said
    return lines[0]


def test_a_key_that_is_not_registered(coordinator: Coordinator, table: Path) -> None:
    stranger = make_site(coordinator, "stranger", table)
    assert "its key is not registered or was withdrawn" in refusal(stranger)


def test_a_key_that_was_revoked_for_good(coordinator: Coordinator, table: Path) -> None:
    revoked = make_site(coordinator, "revoked", table)
    admit(coordinator, revoked)
    assert "never taken again" in coordinator.call("sites", "remove", "revoked")
    assert "its key is not registered or was withdrawn" in refusal(revoked)
    public_key = str(coordinator.authority / "issued" / "revoked" / "node.pub")
    assert "was revoked" in coordinator.call("sites", "add", "again", public_key, code=2)


def test_another_authority(coordinator: Coordinator, table: Path, tmp_path: Path) -> None:
    fooled = make_site(coordinator, "fooled", table)
    script("authority.sh", tmp_path / "other")
    shutil.copy(tmp_path / "other" / "ca.crt", fooled.keys / "other.crt")
    fooled.configure(ca="private/other.crt")
    assert "certificate is not signed by server.ca" in refusal(fooled)


def test_a_coordinator_whose_certificate_has_expired(
    coordinator: Coordinator, table: Path, expired: str
) -> None:
    site = make_site(coordinator, "punctual", table, address=expired)
    assert "the coordinator's certificate has expired" in refusal(site)


def test_a_clock_that_is_off_by_an_hour(
    coordinator: Coordinator, table: Path, tmp_path: Path
) -> None:
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler, by which a process is given another clock")
    library = tmp_path / "shifted_clock.so"
    source = Path(__file__).with_name("shifted_clock.c")
    command = [compiler, "-shared", "-fPIC", "-o", str(library), str(source), "-ldl"]
    subprocess.run(command, check=True)
    site = make_site(coordinator, "clock", table)
    admit(coordinator, site)
    for shift_s, said in (
        (HOUR_S, "this machine's clock is 60 minutes ahead of the coordinator's"),
        # The authority is younger than an hour.
        (-HOUR_S, "the coordinator's certificate is not valid yet; compare this clock"),
    ):
        assert said in refusal(site, {"LD_PRELOAD": str(library), "SHIFT_S": str(shift_s)})
