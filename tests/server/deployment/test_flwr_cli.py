"""What is added to `flwr supernode list`: each node's last heartbeat."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from importlib import import_module

import pytest
from flwr.proto.node_pb2 import NodeInfo

from server.deployment import flwr_cli
from server.deployment.flwr_cli import add_last_heard, seconds_since_heard
from server.deployment.flwr_subprocess import LAST_HEARD, node_status

NOW = datetime(2026, 5, 1, 12, 0, tzinfo=UTC)


def node(number: int, heard_s: float, status: str = "online") -> NodeInfo:
    """A node as a SuperLink reports it whose last heartbeat is so many seconds old."""
    return NodeInfo(
        node_id=number,
        status=status,
        registered_at=NOW.isoformat(),
        online_until=NOW.timestamp() - heard_s + 2 * 30,
        heartbeat_interval=30,
    )


@pytest.mark.parametrize(
    ("info", "status"),
    [
        (node(1, 3.0), "online"),
        (node(1, 14.0), "online"),
        (node(1, 40.4), "not heard for 40 s"),
        (node(1, 70.0, "offline"), "offline"),
        (NodeInfo(node_id=1, status="registered"), "registered"),
    ],
)
def test_a_killed_node_does_not_read_online_for_a_minute(info: NodeInfo, status: str) -> None:
    heard = seconds_since_heard(info, NOW)
    assert node_status({"status": info.status, LAST_HEARD: heard}) == status


def test_without_the_time_the_status_is_flowers() -> None:
    assert node_status({"status": "online"}) == "online"


def test_the_listing_of_flower_has_the_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    listing = import_module("flwr.cli.supernode.ls")
    for name in (flwr_cli.FORMAT_NODES, flwr_cli.NODES_AS_JSON):
        monkeypatch.setattr(listing, name, getattr(listing, name))  # put back after the test
    add_last_heard()
    rows = listing._format_nodes([node(7, 40.0), node(8, 1.0)], NOW.isoformat())
    found = json.loads(listing._to_json(rows, verbose=True))["nodes"]
    assert {one["node-id"]: one[LAST_HEARD] for one in found} == {"7": 40.0, "8": 1.0}
