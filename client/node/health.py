"""Health endpoint of the node, over gRPC: SERVING only while the coordinator responds.

Flower's own endpoint reports only that the process is running, so a disconnected site looks
healthy. This one reports whether the coordinator has responded recently. The probes of compose and
helm use `grpc_health_probe` or `python -m client health`.
"""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from client.config.node_section import Address
from common.errors import NodeError

OFFLINE_AFTER_S = 90.0
"""Heartbeats are sent every 4 s, and the coordinator declares a site lost after 60 s."""
SERVICE = "fedvitals.node"


class Heartbeat:
    """Time of the coordinator's last response, shared by connection and health endpoint."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last: float | None = None

    def beat(self) -> None:
        """Record a response."""
        with self._lock:
            self._last = time.monotonic()

    def age_s(self) -> float:
        """Return the seconds since the last response; infinite before the first."""
        with self._lock:
            return float("inf") if self._last is None else time.monotonic() - self._last


class HealthService(health_pb2_grpc.HealthServicer):  # type: ignore[misc]
    """Service for `grpc.health.v1.Health/Check`."""

    def __init__(self, heartbeat: Heartbeat, offline_after_s: float = OFFLINE_AFTER_S) -> None:
        self._heartbeat = heartbeat
        self._offline_after_s = offline_after_s

    def Check(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802 (gRPC's name)
        """Return SERVING if the site is connected."""
        status = health_pb2.HealthCheckResponse
        if request.service not in ("", SERVICE):
            context.abort(grpc.StatusCode.NOT_FOUND, "unknown service")
        connected = self._heartbeat.age_s() <= self._offline_after_s
        return status(status=status.SERVING if connected else status.NOT_SERVING)


def serve_health(
    address: Address, heartbeat: Heartbeat, offline_after_s: float = OFFLINE_AFTER_S
) -> grpc.Server:
    """Start the endpoint and return its server.

    Raises:
        NodeError: if the address cannot be used.
    """
    server = grpc.server(ThreadPoolExecutor(max_workers=2, thread_name_prefix="health"))
    service = HealthService(heartbeat, offline_after_s)
    health_pb2_grpc.add_HealthServicer_to_server(service, server)
    try:
        server.add_insecure_port(str(address))
    except RuntimeError as problem:
        raise NodeError(f"node.health = {address} cannot be used; is a node running?") from problem
    server.start()
    return server


def ask_health(address: Address, timeout_s: float = 5.0) -> bool:
    """Return whether the node at an address reports that it is connected."""
    with grpc.insecure_channel(str(address)) as channel:
        try:
            reply = health_pb2_grpc.HealthStub(channel).Check(
                health_pb2.HealthCheckRequest(), timeout=timeout_s
            )
        except grpc.RpcError:
            return False
    return bool(reply.status == health_pb2.HealthCheckResponse.SERVING)
