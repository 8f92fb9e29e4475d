"""The certificate of the node's local interface, as the app's process will look at it."""

from __future__ import annotations

import ssl
import stat
import time
from collections.abc import Iterator

from client.config.node_section import Address, ClientApiTls
from client.config.site_config import SiteConfig
from client.node.local_api import server_context
from client.preflight.check_result import CheckResult, fail, ok, warn
from common.errors import NodeError

EXPIRES_SOON_DAYS = 30
ANY_ADDRESS = ("0.0.0.0", "::")  # noqa: S104 - looked for, not listened on
"""What a node listens on whose own site.toml does not name it as the app's does."""
_RENEW = "make a new pair with deploy/certs/local-api.sh; give its client-api.crt to the app too"


def check_interface(config: SiteConfig) -> Iterator[CheckResult]:
    """Give the finding; none where the interface is on loopback and not encrypted."""
    tls = config.node.client_api_tls
    if tls is not None:
        yield _certificate(tls, config.node.client_api)


def _certificate(tls: ClientApiTls, address: Address) -> CheckResult:
    try:
        theirs = server_context(tls)
        mode = stat.S_IMODE(tls.key.stat().st_mode)
    except NodeError as problem:
        return fail("interface", str(problem), _RENEW)
    if mode & 0o007:
        what = f"{tls.key} can be read by every user ({mode:o})"
        return fail("interface", what, f"chmod 600 {tls.key}")
    try:
        ours = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        ours.load_verify_locations(cafile=str(tls.ca))
    except OSError as problem:  # an SSLError is one
        what = f"node.client-api-ca = {tls.ca}: {problem.strerror or problem}"
        return fail("interface", what, _RENEW)
    ours.check_hostname = address.host not in ANY_ADDRESS
    try:
        until = shake_hands(theirs, ours, address.host)
    except ssl.SSLError as problem:
        reason = getattr(problem, "verify_message", "") or problem.reason or str(problem)
        what = f"the app would not trust {tls.certificate} at {address}: {reason}"
        return fail("interface", what, _RENEW)
    days = (ssl.cert_time_to_seconds(until) - time.time()) / 86400
    what = f"the app trusts the node at {address} until {until}, {days:.0f} days"
    if days < EXPIRES_SOON_DAYS:
        return warn("interface", what, _RENEW)
    return ok("interface", what)


def shake_hands(theirs: ssl.SSLContext, ours: ssl.SSLContext, host: str) -> str:
    """Let a client meet a server in memory: name, authority and dates are checked as on the wire.

    Args:
        theirs: the server's side.
        ours: the client's side.
        host: the name or address that the client has asked for.

    Returns:
        Until when the server's certificate is valid, as `ssl` states it.

    Raises:
        ssl.SSLError: the client does not trust the server.
    """
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = ours.wrap_bio(to_client, to_server, server_hostname=host)
    server = theirs.wrap_bio(to_server, to_client, server_side=True)
    for _flight in range(2):
        for side in (client, server):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
    certificate = client.getpeercert() or {}
    return str(certificate["notAfter"])
