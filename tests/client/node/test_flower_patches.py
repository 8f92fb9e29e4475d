from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from typing import Any, cast

import flwr
import httpx
import pytest
from flwr.common import constant
from flwr.proto.fleet_pb2 import PullMessagesRequest
from flwr.supercore import heartbeat
from flwr.supernode import fleet_http_connection, start_client_internal

from client.node import flower_patches
from client.node.flower_patches import (
    PAUSES_AFTER_500_S,
    LastConnectionError,
    check_flower_version,
    patched_flower,
)
from client.node.health import Heartbeat
from client.node.reply_deadline import ReplyDeadline
from common.errors import NodeError

LONGEST_PAUSE_S = 20
IN_WORKER = (
    flower_patches.INIT_CONNECTION,
    flower_patches.VERIFY_FAB,
    flower_patches.PUSH_REPLIES,
)


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    return slept


@contextmanager
def coordinator(statuses: list[int]) -> Iterator[str]:
    """A loopback web server that responds with these in turn; then always with the last."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            self.send_response(statuses.pop(0) if len(statuses) > 1 else statuses[0])
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Log nothing."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def call(address: str, pulse: Heartbeat, connection_error: LastConnectionError) -> None:
    client = flower_patches._watched_client(pulse, connection_error)
    with client.from_server_address(address, True, None, []) as connected:
        connected.PullMessages(PullMessagesRequest())


def test_one_internal_error_passes(pauses: list[float]) -> None:
    pulse, connection_error = Heartbeat(), LastConnectionError()
    with coordinator([500, 500, 200]) as address:
        call(address, pulse, connection_error)
    assert pauses == list(PAUSES_AFTER_500_S[:2])
    assert pulse.age_s() < 60
    assert connection_error.reason is None


def test_an_internal_error_that_stays_is_raised(pauses: list[float]) -> None:
    pulse = Heartbeat()
    with coordinator([500]) as address, pytest.raises(httpx.HTTPStatusError):
        call(address, pulse, LastConnectionError())
    assert pauses == list(PAUSES_AFTER_500_S)
    assert pulse.age_s() == float("inf")


def test_what_somebody_has_to_mend_is_raised_at_once(pauses: list[float]) -> None:
    connection_error = LastConnectionError()
    with coordinator([401]) as address, pytest.raises(httpx.HTTPStatusError):
        call(address, Heartbeat(), connection_error)
    assert pauses == []
    assert "does not accept this site's key" in str(connection_error.reason)


def test_this_release_of_flower_is_the_one_that_the_gate_is_made_for() -> None:
    check_flower_version()


def test_another_release_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flwr, "__version__", "1.42.0")
    with pytest.raises(NodeError, match=r"1\.42\.0 is installed"):
        check_flower_version()


def other_source(original: Callable[[Any], str], name: str) -> Callable[[Any], str]:
    return lambda module: original(module).replace(name, f"{name}_renamed")


@pytest.mark.parametrize(
    "name", [*IN_WORKER, flower_patches.FLEET_CLIENT, flower_patches.HEARTBEAT_INTERVAL]
)
def test_a_name_that_is_gone_keeps_the_node_from_starting(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inspect, "getsource", other_source(inspect.getsource, name))
    with pytest.raises(NodeError, match=f"Flower's {name} is not where it was"):
        check_flower_version()


def test_every_seam_is_held_for_as_long_as_the_node_runs() -> None:
    places = [
        *((start_client_internal, name) for name in IN_WORKER),
        (fleet_http_connection, flower_patches.FLEET_CLIENT),
        (heartbeat, flower_patches.HEARTBEAT_INTERVAL),
    ]
    before = [getattr(module, name) for module, name in places]
    nothing = cast(Any, None)
    with patched_flower(
        nothing, nothing, Heartbeat(), LastConnectionError(), ReplyDeadline(), nothing
    ):
        held = [getattr(module, name) for module, name in places]
    assert all(now is not then for now, then in zip(held, before, strict=True))
    assert [getattr(module, name) for module, name in places] == before


def longest_silence_s(rhythm_s: float, gone_s: float) -> float:
    """A bound of the time between two heartbeats that arrive, by Flower's own times.

    The connection goes just before one is due; the last try that fails begins just before it is
    back and takes its time; then comes the longest pause.
    """
    call_s, spread = constant.HEARTBEAT_CALL_TIMEOUT, constant.HEARTBEAT_RANDOM_RANGE[1]
    period = (rhythm_s - call_s) * (constant.HEARTBEAT_BASE_MULTIPLIER + spread)
    return period + gone_s + call_s + LONGEST_PAUSE_S


def test_a_connection_gone_for_half_a_minute_loses_no_site() -> None:
    assert f"exponential(max_delay={LONGEST_PAUSE_S})" in inspect.getsource(heartbeat)
    announced_s = vars(fleet_http_connection)["HEARTBEAT_DEFAULT_INTERVAL"]
    given_up_s = constant.HEARTBEAT_PATIENCE * announced_s
    assert longest_silence_s(flower_patches.HEARTBEAT_INTERVAL_S, 30) < given_up_s
    assert longest_silence_s(announced_s, 30) > given_up_s
