from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from flwr.proto.control_pb2 import (
    ListNodesRequest,
    ListNodesResponse,
    ListRunsRequest,
    ListRunsResponse,
)
from flwr.proto.node_pb2 import NodeInfo
from flwr.proto.run_pb2 import Run, RunStatus
from google.protobuf.message import Message

from common.errors import FederationError
from server.deployment.control_api import ControlApi, seconds_since_heard
from tests.samples.ports import free_port

RUNS = {
    7: Run(run_id=7, pending_at="2026-01-01", status=RunStatus(status="running")),
    9: Run(
        run_id=9,
        pending_at="2026-01-02",
        status=RunStatus(status="finished", sub_status="failed"),
    ),
}


NOW = datetime(2026, 5, 1, 12, 0, tzinfo=UTC)


def node(heard_s: float, status: str = "online") -> NodeInfo:
    """A node as a SuperLink reports it whose last heartbeat is so many seconds old."""
    return NodeInfo(
        node_id=2**63 + 5,
        status=status,
        online_until=NOW.timestamp() - heard_s + 2 * 30,
        heartbeat_interval=30,
    )


NODE = node(40.4)


class SuperLink(BaseHTTPRequestHandler):
    """The two calls, as Flower's SuperLink answers them; the integration tests have the real."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.headers.get("authorization") != "Bearer a.meyer.secret":
            return self._answer(401, json.dumps({"code": 401, "detail": "no operator"}).encode())
        if self.path == "/v1/control/list-nodes":
            ListNodesRequest.FromString(body)
            answer = ListNodesResponse(nodes_info=[NODE], now=NOW.isoformat())
            return self._answer(200, answer.SerializeToString())
        request = ListRunsRequest.FromString(body)
        runs = {request.run_id: RUNS[request.run_id]} if request.HasField("run_id") else RUNS
        return self._answer(200, ListRunsResponse(run_dict=runs).SerializeToString())

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), SuperLink)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()


def test_runs_and_nodes_have_their_status(address: str) -> None:
    control = ControlApi(address, credential="a.meyer.secret")
    assert list(control.runs().items()) == [("9", "finished:failed"), ("7", "running")]
    assert control.runs("7") == {"7": "running"}
    assert control.nodes() == {str(2**63 + 5): "not heard for 40 s"}


@pytest.mark.parametrize(
    ("info", "seconds"),
    [
        (node(3.0), 3.0),
        (node(70.0, "offline"), None),
        (NodeInfo(node_id=1, status="registered"), None),
    ],
)
def test_a_killed_node_does_not_read_online_for_a_minute(
    info: NodeInfo, seconds: float | None
) -> None:
    assert seconds_since_heard(info, NOW) == seconds


def test_a_refusal_has_the_superlinks_reason(address: str) -> None:
    with pytest.raises(FederationError, match=r"does not list its nodes: no operator$"):
        ControlApi(address).nodes()


@pytest.mark.parametrize("run", ["", "7"])
def test_a_superlink_that_is_gone_is_an_error(run: str) -> None:
    with pytest.raises(FederationError, match=r"does not answer: .*refused"):
        ControlApi(f"127.0.0.1:{free_port()}").runs(run)


def test_the_id_of_a_run_is_a_number(address: str) -> None:
    with pytest.raises(FederationError, match=r"knows no run x7; a run's id is a number"):
        ControlApi(address).runs("x7")


ESCAPES = "\x1b[2J\x1b[31mok\n\x07" + "x" * 1000


@pytest.fixture
def answer(monkeypatch: pytest.MonkeyPatch) -> Callable[[Message], ControlApi]:
    """A function that returns a client of a SuperLink with one answer."""

    def client(message: Message) -> ControlApi:
        control = ControlApi("here:1")
        monkeypatch.setattr(control, "_call", lambda *_: message)
        return control

    return client


@pytest.mark.parametrize("now", ["", "yesterday", ESCAPES])
def test_a_time_that_is_none_is_an_error(answer: Callable[[Message], ControlApi], now: str) -> None:
    """Before: the command ended as by a bug of its own."""
    with pytest.raises(FederationError, match="the SuperLink at here:1 gives no valid time"):
        answer(ListNodesResponse(nodes_info=[NODE], now=now)).nodes()


@pytest.mark.parametrize("until", [float("nan"), float("inf"), float("-inf"), -1e300])
def test_a_heartbeat_that_cannot_be_is_not_shown(
    answer: Callable[[Message], ControlApi], until: float
) -> None:
    info = NodeInfo(node_id=1, status="online", online_until=until, heartbeat_interval=30)
    control = answer(ListNodesResponse(nodes_info=[info], now=NOW.isoformat()))
    assert control.nodes() == {"1": "online"}


def test_a_status_moves_no_cursor(answer: Callable[[Message], ControlApi]) -> None:
    info = NodeInfo(node_id=1, status=ESCAPES)
    nodes = answer(ListNodesResponse(nodes_info=[info], now=NOW.isoformat())).nodes()
    run = Run(run_id=1, status=RunStatus(status="finished", sub_status=ESCAPES))
    runs = answer(ListRunsResponse(run_dict={1: run})).runs()
    for shown in (nodes["1"], runs["1"]):
        assert shown.isprintable()
        assert len(shown) <= 60
