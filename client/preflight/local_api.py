"""Check of the local interface's certificate, as the app's process will verify it."""

from __future__ import annotations

import ssl
import stat
import time
from collections.abc import Iterator

from client.config.node_section import Address, ClientApiTls
from client.config.site_config import SiteConfig
from client.node.local_api import server_context
from client.preflight.check_result import CheckResult, fail, ok, warn
from client.preflight.network import EXPIRES_SOON_DAYS
from common.errors import NodeError

ANY_ADDRESS = ("0.0.0.0", "::")  # noqa: S104 - compared with, not listened on
"""Addresses by which the app does not know the node; the host name is not checked for them."""
_RENEW = "make a new pair with deploy/certs/local-api.sh; give its client-api.crt to the app too"


def check_interface(config: SiteConfig) -> Iterator[CheckResult]:
    """Yield the result; none if the interface is on loopback and not encrypted."""
    tls = config.node.client_api_tls
    if tls is not None:
        yield _certificate(tls, config.node.client_api)


def _certificate(tls: ClientApiTls, address: Address) -> CheckResult:
    try:
        server_side = server_context(tls)
        mode = stat.S_IMODE(tls.key.stat().st_mode)
    except NodeError as problem:
        return fail("interface", str(problem), _RENEW)
    if mode & 0o007:
        what = f"{tls.key} can be read by every user ({mode:o})"
        return fail("interface", what, f"chmod 600 {tls.key}")
    try:
        client_side = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        client_side.load_verify_locations(cafile=str(tls.ca))
    except OSError as problem:  # includes ssl.SSLError
        what = f"node.client-api-ca = {tls.ca}: {problem.strerror or problem}"
        return fail("interface", what, _RENEW)
    client_side.check_hostname = address.host not in ANY_ADDRESS
    try:
        until = tls_handshake(server_side, client_side, address.host)
    except ssl.SSLError as problem:
        reason = getattr(problem, "verify_message", "") or problem.reason or str(problem)
        what = f"the app would not trust {tls.certificate} at {address}: {reason}"
        return fail("interface", what, _RENEW)
    days = (ssl.cert_time_to_seconds(until) - time.time()) / 86400
    what = f"the app trusts the node at {address} until {until}, {days:.0f} days"
    if days < EXPIRES_SOON_DAYS:
        return warn("interface", what, _RENEW)
    return ok("interface", what)


def tls_handshake(server_side: ssl.SSLContext, client_side: ssl.SSLContext, host: str) -> str:
    """Do a TLS handshake in memory, which checks name, authority and dates as on the wire.

    Args:
        server_side: the server's context.
        client_side: the client's context.
        host: the name or address that the client connects to.

    Returns:
        End of the server certificate's validity, as `ssl` formats it.

    Raises:
        ssl.SSLError: if the client does not trust the server.
    """
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = client_side.wrap_bio(to_client, to_server, server_hostname=host)
    server = server_side.wrap_bio(to_server, to_client, server_side=True)
    for _flight in range(2):
        for side in (client, server):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
    certificate = client.getpeercert() or {}
    return str(certificate["notAfter"])
