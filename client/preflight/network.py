"""Checks of the connection to the coordinator: DNS, port, TLS, certificate, proxy and clock.

Each step needs the one before, and the first failure is the last result. With a gateway in between,
name, port and certificate are the gateway's, and its HTTP status shows the state beyond it.
"""

from __future__ import annotations

import http.client
import socket
import ssl
import time
from collections.abc import Iterator
from email.utils import parsedate_to_datetime

from client.config.site_config import ServerSection
from client.node.connection_errors import explain_tls
from client.preflight.check_result import CheckResult, fail, ok, warn

CONNECT_TIMEOUT_S = 10.0
EXPIRES_SOON_DAYS = 30
CLOCK_FAIL_S = 300.0
"""Flower refuses a node whose signed time differs by more."""
CLOCK_WARN_S = 60.0
_PROXY_ERRORS = {
    400: (
        "this site's certificate is not accepted",
        "check with deploy/certs/verify.sh whether tls.crt has expired, else ask the coordinator "
        "whether it was revoked",
    ),
    502: (
        "the gateway does not reach the coordinator, or does not trust it",
        "the gateway's log says why: its name, the firewall, or a ca.crt of another federation",
    ),
    504: ("the coordinator does not answer the gateway", "ask the coordinator"),
}
"""HTTP status codes of a proxy itself; the coordinator answers `_probe` with 403 or 404."""
_FIREWALL = "ask the network's administrators to allow this machine to reach it"


def check_network(server: ServerSection) -> Iterator[CheckResult]:
    """Yield the results, step by step, until one fails."""
    for step in (_check_name, _check_port, _check_tls):
        found = list(step(server))
        yield from found
        if any(finding.level == "FAIL" for finding in found):
            return


def _check_name(server: ServerSection) -> Iterator[CheckResult]:
    host = server.address.host
    try:
        answers = socket.getaddrinfo(host, server.address.port, type=socket.SOCK_STREAM)
    except OSError as problem:
        reason = problem.strerror or str(problem)
        yield fail(
            "dns",
            f"{host} has no address ({reason})",
            "check server.address, or ask the network's administrators for a DNS entry",
        )
        return
    addresses = sorted({str(answer[4][0]) for answer in answers})
    yield ok("dns", f"{host} is {', '.join(addresses)}")


def _check_port(server: ServerSection) -> Iterator[CheckResult]:
    address = server.address
    try:
        socket.create_connection((address.host, address.port), CONNECT_TIMEOUT_S).close()
    except OSError as problem:
        reason = problem.strerror or str(problem)
        yield fail("tcp", f"{address} does not answer ({reason})", _FIREWALL)
        return
    yield ok("tcp", f"{address} answers")


def _check_tls(server: ServerSection) -> Iterator[CheckResult]:
    address = server.address
    try:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(cafile=str(server.ca))
    except OSError as problem:  # includes ssl.SSLError
        reason = problem.strerror or str(problem)
        yield fail("tls", f"server.ca = {server.ca}: {reason}", "put the coordinator's CA there")
        return
    try:
        raw = socket.create_connection((address.host, address.port), CONNECT_TIMEOUT_S)
        with context.wrap_socket(raw, server_hostname=address.host) as channel:
            certificate = channel.getpeercert() or {}
            yield ok("tls", f"{channel.version()}, signed by {server.ca.name}")
    except OSError as problem:
        meaning = explain_tls(str(problem)) or "there is no TLS at server.address"
        yield fail("tls", str(problem.strerror or problem)[:200], meaning)
        return
    yield _expiry(str(certificate.get("notAfter", "")))
    status, stated = _probe(server, context)
    if status in _PROXY_ERRORS:
        what, remedy = _PROXY_ERRORS[status]
        yield fail("door", f"{address} answers with {status}: {what}", remedy)
        return
    yield _clock(stated)


def _expiry(until: str) -> CheckResult:
    days = (ssl.cert_time_to_seconds(until) - time.time()) / 86400
    what = f"the certificate of server.address is valid until {until}, {days:.0f} days"
    if days < EXPIRES_SOON_DAYS:
        return warn("certificate", what, "remind the coordinator to renew it")
    return ok("certificate", what)


def _probe(server: ServerSection, context: ssl.SSLContext) -> tuple[int, float | None]:
    """Send a HEAD request; return the response's status, 0 without one, and its time."""
    status, there, address = 0, None, server.address
    connection = http.client.HTTPSConnection(
        address.host, address.port, timeout=CONNECT_TIMEOUT_S, context=context
    )
    try:
        connection.request("HEAD", "/v1/fleet/")
        response = connection.getresponse()
        status, stated = response.status, response.getheader("Date")
        there = None if stated is None else parsedate_to_datetime(stated).timestamp()
    except (OSError, ValueError, http.client.HTTPException):
        pass
    finally:
        connection.close()
    return status, there


def _clock(there: float | None) -> CheckResult:
    """Compare this clock with the response's Date header, which is in whole seconds."""
    if there is None:
        return warn("clock", "the coordinator sends no time", "check that this machine uses NTP")
    off = time.time() - there
    what = f"this clock is {abs(off):.0f} s {'ahead of' if off > 0 else 'behind'} the coordinator's"
    if abs(off) > CLOCK_FAIL_S:
        return fail("clock", what, "set the clock and let NTP keep it; the node's key is refused")
    if abs(off) > CLOCK_WARN_S:
        return warn("clock", what, "let NTP keep this clock")
    return ok("clock", what)
