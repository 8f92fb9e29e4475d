"""What is wrong between a site and the coordinator, in one line, from what httpx raises."""

from __future__ import annotations

import httpx

UNAUTHORIZED = (
    "the coordinator does not accept this site's key: it is not registered or was withdrawn, or "
    "this machine's clock is more than five minutes off; compare the clock, then ask the "
    "coordinator for the key's state"
)
FORBIDDEN = (
    "the coordinator's proxy forbids this site; ask the coordinator whether its network and "
    "certificate are allowed"
)

_TLS = (
    ("has expired", "the coordinator's certificate has expired; the coordinator has to renew it"),
    ("not yet valid", "the coordinator's certificate is not valid yet; compare this clock"),
    (
        "hostname mismatch",
        "the coordinator's certificate is for another name than server.address; compare the two",
    ),
    (
        "ip address mismatch",
        "the coordinator's certificate is for another name than server.address; compare the two",
    ),
    (
        "self-signed certificate",
        "the coordinator's certificate is not signed by server.ca; ask the coordinator for its CA",
    ),
    (
        "unable to get local issuer",
        "the coordinator's certificate is not signed by server.ca; ask the coordinator for its CA",
    ),
    (
        "certificate required",
        "the coordinator's proxy asks for a certificate of this site, which it does not have",
    ),
    ("certificate", "the coordinator's certificate cannot be trusted; run preflight for details"),
    ("ssl", "there is no TLS at server.address; compare the address and the port"),
)


def explain(error: httpx.HTTPError) -> str | None:
    """Return what has to be mended by somebody; None for what passes by itself."""
    if isinstance(error, httpx.HTTPStatusError):
        return {401: UNAUTHORIZED, 403: None}.get(error.response.status_code)
    return explain_tls(str(error))


def explain_tls(text: str) -> str | None:
    """Return what a failed handshake means; None where the text is of something else."""
    lower = text.lower()
    return next((meaning for sign, meaning in _TLS if sign in lower), None)
