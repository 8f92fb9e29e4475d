"""Both proxies as real nginx processes: a site's gateway and the coordinator's proxy.

The SuperLink is played by a TLS server that keeps the path of each request as it was sent. Only
paths, ports and names are replaced in the two nginx.conf.
"""

from __future__ import annotations

import http.client
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from client.config.node_section import Address
from client.config.site_config import ServerSection
from client.preflight.network import check_network
from tests.deploy.nginx import NGINX, command_of, wait_for_port, write_config
from tests.integration.setup.deployed import provision, script
from tests.samples.ports import free_port, free_ports

pytestmark = pytest.mark.skipif(NGINX is None, reason="nginx is not here")

COORDINATORS_DATE = "Thu, 01 Jan 2026 00:00:00 GMT"


@dataclass
class SuperLink:
    """Server that records the requested paths."""

    port: int
    keys: Path
    paths: list[str] = field(default_factory=list)

    def serve(self) -> ThreadingHTTPServer:
        paths = self.paths

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_HEAD(self) -> None:
                self.send_response_only(403)
                self.send_header("Date", COORDINATORS_DATE)
                self.end_headers()

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                paths.append(self.path)
                self.send_response_only(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.keys / "tls.crt", self.keys / "tls.key")
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return server


@dataclass(frozen=True)
class Federation:
    """Ports and keys of the connection from a node to the SuperLink."""

    folder: Path
    door: int
    gateway: int
    superlink: SuperLink
    site: Path

    def knock(
        self, path: str, method: str = "POST", keys: Path | None = None
    ) -> http.client.HTTPResponse:
        """Send a request to the coordinator's proxy with a site's certificate, or with none."""
        context = ssl.create_default_context(cafile=str(self.site / "ca.crt"))
        if keys is not None:
            context.load_cert_chain(keys / "tls.crt", keys / "tls.key")
        return ask(self.door, context, method, path)

    def through_gateway(self, path: str, method: str = "POST") -> http.client.HTTPResponse:
        """Send a request as the site's node, which trusts only the gateway's certificate."""
        context = ssl.create_default_context(cafile=str(self.site / "gateway.crt"))
        return ask(self.gateway, context, method, path)


def ask(port: int, context: ssl.SSLContext, method: str, path: str) -> http.client.HTTPResponse:
    connection = http.client.HTTPSConnection("localhost", port, timeout=20, context=context)
    try:
        connection.request(method, path, body=b"" if method == "POST" else None)
        response = connection.getresponse()
        response.read()
        return response
    finally:
        connection.close()


@pytest.fixture(scope="module")
def federation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    folder = tmp_path_factory.mktemp("proxies")
    authority = folder / "authority"
    script("authority.sh", authority)
    server = provision(authority, "server", "coordinator", folder / "c", "--san", "DNS:localhost")
    site = provision(authority, "site", "north", folder / "north")
    provision(authority, "site", "gone", folder / "gone")
    script("revoke.sh", authority, "gone")
    link, door, gateway = free_ports(3)
    for name in ("door", "gateway"):
        (folder / name).mkdir()
    configs = [
        write_config("server", folder / "door", {
            "listen 8443": f"listen 127.0.0.1:{door}",
            "127.0.0.1:8000": f"127.0.0.1:{link}",
            "/etc/fedvitals/revoked/crl.pem": str(authority / "crl.pem"),
            "/etc/fedvitals/private": str(server),
        }),
        write_config("site", folder / "gateway", {
            "listen 9443": f"listen 127.0.0.1:{gateway}",
            "coordinator.example.org:8443": f"localhost:{door}",
            "proxy_ssl_name coordinator.example.org": "proxy_ssl_name localhost",
            "/etc/fedvitals/private": str(site),
        }),
    ]  # fmt: skip
    superlink = SuperLink(link, server)
    listening = superlink.serve()
    processes = [
        subprocess.Popen([*command_of(path), "-g", "daemon off;"], stderr=subprocess.DEVNULL)
        for path in configs
    ]
    try:
        for port in (door, gateway):
            wait_for_port(port)
        yield Federation(folder, door, gateway, superlink, site)
    finally:
        for process in processes:
            process.terminate()
            process.wait(20)
        listening.shutdown()


@pytest.mark.parametrize("role", ["site", "server"])
def test_nginx_finds_no_fault(federation: Federation, role: str) -> None:
    config = federation.folder / {"site": "gateway", "server": "door"}[role] / "nginx.conf"
    result = subprocess.run(
        [*command_of(config), "-t"], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    assert "[warn]" not in result.stderr


def test_a_node_reaches_the_superlink_through_gateway_and_door(federation: Federation) -> None:
    before = len(federation.superlink.paths)
    assert federation.through_gateway("/v1/fleet/pull-messages").status == 200
    assert federation.superlink.paths[before:] == ["/v1/fleet/pull-messages"]


HIDDEN = [
    "/v1/control/start-run",
    "/v1/runtime/acquire-task",
    "/health",
    "/",
    "/v1/fleet",
    "/v1/fleet/../control/start-run",
    "/v1/fleet/%2e%2e/control/start-run",
    "/v1/fleet/..%2fcontrol/start-run",
    "/v1/fleet/%252e%252e/control/start-run",
    "/v1/control/../fleet/../control/start-run",
    "/v1/control/start-run/../../fleet/pull-messages",
    "//v1/fleet/pull-messages",
    "/v1/fleet//pull-messages",
    "/v1/fleet/pull-messages?patient=4711",
    "/v1/fleet/pull-messages/4711",
    "/V1/fleet/pull-messages",
]


@pytest.mark.parametrize("path", HIDDEN)
def test_nothing_but_the_fleet_api_is_reached(federation: Federation, path: str) -> None:
    before = len(federation.superlink.paths)
    assert federation.knock(path, keys=federation.site).status == 403
    assert federation.through_gateway(path).status == 403
    assert federation.superlink.paths[before:] == []


def test_only_posts_pass(federation: Federation) -> None:
    for method in ("GET", "PUT", "DELETE", "HEAD"):
        assert federation.knock("/v1/fleet/get-run", method, federation.site).status == 403


def test_who_has_no_valid_certificate_of_a_site_stays_outside(federation: Federation) -> None:
    before = len(federation.superlink.paths)
    assert federation.knock("/v1/fleet/pull-messages").status == 400
    gone = federation.folder / "gone" / "private"
    assert federation.knock("/v1/fleet/pull-messages", keys=gone).status == 400
    assert federation.superlink.paths[before:] == []


def test_old_tls_is_refused(federation: Federation) -> None:
    context = ssl.create_default_context(cafile=str(federation.site / "ca.crt"))
    context.load_cert_chain(federation.site / "tls.crt", federation.site / "tls.key")
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(ssl.SSLError):
        ask(federation.door, context, "POST", "/v1/fleet/pull-messages")


@contextmanager
def gateway_before(port: int, site: Path, folder: Path) -> Iterator[int]:
    """Start a gateway for another coordinator; return the gateway's port."""
    own = free_port()
    config = write_config("site", folder, {
        "listen 9443": f"listen 127.0.0.1:{own}",
        "coordinator.example.org:8443": f"localhost:{port}",
        "proxy_ssl_name coordinator.example.org": "proxy_ssl_name localhost",
        "/etc/fedvitals/private": str(site),
    })  # fmt: skip
    with (folder / "gateway.log").open("wb") as log:
        process = subprocess.Popen([*command_of(config), "-g", "daemon off;"], stderr=log)
    try:
        wait_for_port(own)
        yield own
    finally:
        process.terminate()
        process.wait(20)


def test_the_gateway_takes_nobody_but_its_coordinator(
    federation: Federation, tmp_path: Path
) -> None:
    """A door with another authority's certificate gets nothing of the site."""
    script("authority.sh", tmp_path / "authority")
    keys = provision(
        tmp_path / "authority", "server", "coordinator", tmp_path / "keys", "--san",
        "DNS:localhost",
    )  # fmt: skip
    impostor = SuperLink(free_port(), keys)
    listening = impostor.serve()
    context = ssl.create_default_context(cafile=str(federation.site / "gateway.crt"))
    try:
        with gateway_before(impostor.port, federation.site, tmp_path) as port:
            assert ask(port, context, "POST", "/v1/fleet/pull-messages").status == 502
    finally:
        listening.shutdown()
    assert impostor.paths == []
    assert "certificate verify error" in (tmp_path / "gateway.log").read_text()


def test_preflight_sees_through_the_gateway_whether_the_door_is_open(
    federation: Federation, tmp_path: Path
) -> None:
    def found(port: int, keys: Path) -> list[tuple[str, str]]:
        server = ServerSection(address=Address("localhost", port), ca=keys / "gateway.crt")
        return [(finding.code, finding.level) for finding in check_network(server)]

    assert found(federation.gateway, federation.site)[-1] == ("clock", "OK")
    revoked = federation.folder / "gone" / "private"
    with gateway_before(federation.door, revoked, tmp_path) as port:
        assert found(port, revoked)[-1] == ("door", "FAIL")


def test_preflight_is_told_the_coordinators_time_and_not_the_gateways(
    federation: Federation, tmp_path: Path
) -> None:
    context = ssl.create_default_context(cafile=str(federation.site / "gateway.crt"))
    with gateway_before(federation.superlink.port, federation.site, tmp_path) as port:
        response = ask(port, context, "HEAD", "/v1/fleet/")
    assert response.msg.get_all("Date") == [COORDINATORS_DATE]
