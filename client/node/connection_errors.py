"""Explanations, in one line each, of errors between a site and the coordinator."""

from __future__ import annotations

import datetime as dt
from email.utils import parsedate_to_datetime

import httpx

UNAUTHORIZED = (
    "the coordinator does not accept this site's key: it is not registered or was withdrawn, or "
    "this machine's clock is more than five minutes off; compare the clock, then ask the "
    "coordinator for the key's state"
)
CLOCK = (
    "this machine's clock is {minutes} minutes {direction} the coordinator's, which accepts five; "
    "set it, and let NTP keep it"
)
TOLERATED = dt.timedelta(minutes=5)
"""Largest age of the signed time in a node's call that Flower's interceptor accepts."""
NOT_ACTIVATED = (
    "the coordinator does not accept this node: its key is not registered or was withdrawn, or a "
    "node with this key was connected less than a minute ago, which resolves itself; if it does "
    "not, ask the coordinator for the key's state"
)
NO_CERTIFICATE = (
    "the coordinator's proxy does not accept this site's certificate: it has expired, was revoked "
    "or is of another federation; check it with deploy/certs/verify.sh, make a new one with "
    "request.sh"
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
        "the coordinator's proxy requires a client certificate, which this site does not have",
    ),
    ("certificate", "the coordinator's certificate cannot be trusted; run preflight for details"),
    ("wrong version number", "there is no TLS at server.address; compare address and port"),
    ("record layer failure", "there is no TLS at server.address; compare address and port"),
)


def explain(error: httpx.HTTPError) -> str | None:
    """Return what somebody has to fix; None for an error that resolves itself."""
    if not isinstance(error, httpx.HTTPStatusError):
        return explain_tls(str(error))
    # Flower answers 412 to an unknown key, and to a node that it still counts as connected.
    match error.response.status_code:
        case 400 if "SSL certificate" in error.response.text:  # nginx's text
            return NO_CERTIFICATE
        case 401:
            return explain_clock(error.response.headers.get("date")) or UNAUTHORIZED
        case 412:
            return NOT_ACTIVATED
    return None


def explain_clock(stated: str | None) -> str | None:
    """Return by how much this clock is off, by the `Date` header of a response that just came.

    None if the two agree within `TOLERATED`, or the coordinator sends no time.
    """
    try:
        ahead = dt.datetime.now(dt.UTC) - parsedate_to_datetime(stated or "")
    except (TypeError, ValueError):  # nothing stated, no date, or one without its time zone
        return None
    if abs(ahead) < TOLERATED:
        return None
    direction = "ahead of" if ahead > dt.timedelta() else "behind"
    return CLOCK.format(minutes=round(abs(ahead).total_seconds() / 60), direction=direction)


def explain_tls(text: str) -> str | None:
    """Return the meaning of a failed TLS handshake's text; None if it is another error."""
    lower = text.lower()
    return next((meaning for sign, meaning in _TLS if sign in lower), None)
