from __future__ import annotations

import datetime as dt
from email.utils import format_datetime

import httpx
import pytest

from client.node.connection_errors import NO_CERTIFICATE, NOT_ACTIVATED, UNAUTHORIZED, explain


def answered(status: int, ahead: dt.timedelta | None = None) -> httpx.HTTPStatusError:
    """Return what httpx raises if the coordinator's clock is behind ours by `ahead`."""
    headers = {}
    if ahead is not None:
        headers["date"] = format_datetime(dt.datetime.now(dt.UTC) - ahead, usegmt=True)
    request = httpx.Request("POST", "https://coordinator/v1/fleet/pull-messages")
    return httpx.HTTPStatusError(
        "", request=request, response=httpx.Response(status, headers=headers)
    )


@pytest.mark.parametrize(
    ("minutes", "said"),
    [(60, "60 minutes ahead of"), (-60, "60 minutes behind"), (6, "6 minutes ahead of")],
)
def test_a_clock_that_is_off_is_named(minutes: int, said: str) -> None:
    assert f"clock is {said} the coordinator's" in str(
        explain(answered(401, dt.timedelta(minutes=minutes)))
    )


@pytest.mark.parametrize("ahead", [None, dt.timedelta(minutes=4), dt.timedelta(minutes=-4)])
def test_a_clock_that_is_right_leaves_the_key(ahead: dt.timedelta | None) -> None:
    assert explain(answered(401, ahead)) == UNAUTHORIZED


@pytest.mark.parametrize("date", ["", "yesterday", "Wed, 25 Nov 2026 08:00:00"])
def test_a_date_that_says_nothing_is_no_clock(date: str) -> None:
    error = answered(401)
    error.response.headers["date"] = date
    assert explain(error) == UNAUTHORIZED


def test_what_passes_by_itself_is_nobodys_to_mend() -> None:
    assert explain(answered(503)) is None
    assert explain(answered(500)) is None
    assert explain(httpx.ConnectError("[Errno 111] Connection refused")) is None
    assert explain(answered(412)) == NOT_ACTIVATED


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("certificate verify failed: certificate has expired (_ssl.c:1000)", "has expired; the"),
        ("certificate verify failed: Hostname mismatch, certificate is not valid", "another name"),
        ("certificate verify failed: self-signed certificate in chain", "ask the coordinator for"),
        ("[SSL: WRONG_VERSION_NUMBER] wrong version number", "there is no TLS at server.address"),
    ],
)
def test_a_failed_handshake(text: str, said: str) -> None:
    assert said in str(explain(httpx.ConnectError(text)))


@pytest.mark.parametrize("said", ["The SSL certificate error", "No required SSL certificate"])
def test_a_certificate_that_the_proxy_does_not_take(said: str) -> None:
    page = f"<html><head><title>400 {said}</title></head></html>"
    request = httpx.Request("POST", "https://coordinator/v1/fleet/activate-node")
    response = httpx.Response(400, text=page)
    refused = httpx.HTTPStatusError("", request=request, response=response)
    assert explain(refused) == NO_CERTIFICATE
    assert explain(answered(400)) is None
