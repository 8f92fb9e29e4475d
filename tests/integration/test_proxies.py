"""A run through gateway and door, the nginx.conf of deploy/, to a real SuperLink."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from common.config.run_config import FederationConfig, RunConfig
from common.errors import NodeError
from tests.deploy.nginx import NGINX, command_of, wait_for_port, write_config
from tests.integration.setup.deployed import (
    Coordinator,
    Site,
    admit,
    make_site,
    script,
    usable,
    with_federation,
)
from tests.integration.setup.processes import finish
from tests.samples.ports import free_ports

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(NGINX is None, reason="nginx is not here"),
]


@contextmanager
def nginx(role: str, folder: Path, values: dict[str, str]) -> Iterator[Path]:
    """Run one for as long as the block lasts; give its configuration."""
    folder.mkdir()
    config = write_config(role, folder, values)
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([*command_of(config), "-g", "daemon off;"], stderr=log)
    try:
        yield config
    finally:
        process.terminate()
        process.wait(20)


@contextmanager
def door(coordinator: Coordinator, port: int) -> Iterator[Path]:
    """The coordinator's proxy."""
    values = {
        "listen 8443": f"listen 127.0.0.1:{port}",
        "127.0.0.1:8000": coordinator.address.replace("localhost", "127.0.0.1"),
        "/etc/fedvitals/revoked/crl.pem": str(coordinator.authority / "crl.pem"),
        "/etc/fedvitals/private": str(coordinator.folder / "keys" / "private"),
    }
    with nginx("server", coordinator.folder / f"door-{port}", values) as config:
        wait_for_port(port)
        yield config


@contextmanager
def gateway(site: Site, port: int, door: int) -> Iterator[None]:
    """The site's own proxy."""
    values = {
        "listen 9443": f"listen 127.0.0.1:{port}",
        "coordinator.example.org:8443": f"localhost:{door}",
        "proxy_ssl_name coordinator.example.org": "proxy_ssl_name localhost",
        "/etc/fedvitals/private": str(site.keys),
    }
    with nginx("site", site.keys.parent / "gateway", values):
        wait_for_port(port)
        yield


def test_a_run_through_both_proxies_until_the_certificate_is_revoked(
    coordinator: Coordinator, deployed_cohort: Path, tiny_bolt: Path, deployed_run: RunConfig
) -> None:
    outside, inside = free_ports(2)
    table = deployed_cohort / "sites" / "micu.parquet"
    site = make_site(coordinator, "micu", table, tiny_bolt, f"localhost:{inside}")
    site.configure(tiny_bolt, ca="private/gateway.crt")  # as deploy/site has it
    admit(coordinator, site)
    alone = with_federation(deployed_run, FederationConfig(min_sites=1, wait_s=120.0), rounds=2)
    with door(coordinator, outside) as config, gateway(site, inside, outside):
        with site.started():
            code, said = finish(coordinator.start_run(alone))
        assert code == 0, said
        assert usable(Path(alone.out)) == [{"micu"}] * 3

        script("revoke.sh", coordinator.authority, "micu")
        subprocess.run([*command_of(config), "-s", "reload"], check=True)
        refused = site.client("node", "--config", str(site.config), code=NodeError.exit_code)
        assert "the coordinator's proxy does not accept this site's certificate" in refused


def test_a_site_whose_certificate_has_expired(
    coordinator: Coordinator, deployed_cohort: Path
) -> None:
    outside, inside = free_ports(2)
    table = deployed_cohort / "sites" / "ccu.parquet"
    site = make_site(coordinator, "ccu", table, address=f"localhost:{inside}", days="-1")
    site.configure(ca="private/gateway.crt")
    admit(coordinator, site)
    with door(coordinator, outside), gateway(site, inside, outside):
        refused = site.client("node", "--config", str(site.config), code=NodeError.exit_code)
    assert "the coordinator's proxy does not accept this site's certificate" in refused
