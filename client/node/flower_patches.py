"""Patches of Flower's SuperNode: the gate, bundle approval, heartbeats and retries.

The patched names are internal to Flower 1.41.0, which is pinned exactly. A node refuses to start if
the release differs or a name is missing: it would run without its gate, or drop out of rounds.
"""

from __future__ import annotations

import hashlib
import inspect
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import ModuleType
from typing import Any, NoReturn

import flwr
import httpx
from flwr.supercore import heartbeat as flower_heartbeat
from flwr.supercore.fab import Fab
from flwr.supercore.object_store import ObjectStore
from flwr.supernode import fleet_http_connection, start_client_internal
from flwr.supernode.fleet_http_client import FleetHttpClient

from client.egress.gate import Gate
from client.node.connection_errors import explain
from client.node.gated_connection import FlowerConnection, GatedConnection
from client.node.health import Heartbeat
from client.node.reply_deadline import ReplyDeadline
from common.errors import AuditError, NodeError

FLOWER_VERSION = "1.41.0"
INIT_CONNECTION, VERIFY_FAB = "_init_connection", "_verify_fab"
PUSH_REPLIES = "_push_messages"
"""In `start_client_internal`."""
FLEET_CLIENT = "FleetHttpClient"
"""In `fleet_http_connection`."""
HEARTBEAT_INTERVAL = "HEARTBEAT_DEFAULT_INTERVAL"
"""In `heartbeat`; Flower subtracts five seconds from it and waits four fifths of the rest."""
HEARTBEAT_INTERVAL_S = 10
"""Gives a heartbeat every 4 s. The SuperLink declares a node lost 60 s after its last one, and with
it the request in work. With Flower's own 20 s, a connection that is down for 30 s and the pause
before the next retry can exceed that. The interval that is announced stays Flower's 30 s, of which
the SuperLink waits for two."""
PAUSES_AFTER_500_S = (1.0, 2.0, 4.0, 8.0, 15.0)
"""Pauses before each retry; after the last one the node exits and is restarted."""

log = logging.getLogger("fedvitals.node")


class LastConnectionError:
    """Latest reason why the coordinator refuses this node; None if it needs no fix."""

    def __init__(self) -> None:
        self.reason: str | None = None


def check_flower_version() -> None:
    """Raise `NodeError` if the installed Flower is not the one that these patches are made for."""
    if flwr.__version__ != FLOWER_VERSION:
        raise NodeError(
            f"flwr {flwr.__version__} is installed, the gate is made for {FLOWER_VERSION}"
        )
    worker = inspect.getsource(start_client_internal)
    connection = inspect.getsource(fleet_http_connection)
    sender = inspect.getsource(flower_heartbeat)
    no_gate = "the gate would not be called"
    for name, usage, source, consequence in (
        (INIT_CONNECTION, f"with {INIT_CONNECTION}(", worker, no_gate),
        (VERIFY_FAB, f"= {VERIFY_FAB}(fab, trusted_entities)", worker, no_gate),
        (PUSH_REPLIES, f"            {PUSH_REPLIES}(\n", worker, "replies could be sent late"),
        (
            FLEET_CLIENT,
            f"with {FLEET_CLIENT}.from_server_address(",
            connection,
            "health would be unknown",
        ),
        (
            HEARTBEAT_INTERVAL,
            f"next_interval: float = {HEARTBEAT_INTERVAL} - ",
            sender,
            "a short loss of the connection could cost a round",
        ),
    ):
        if usage not in source:
            raise NodeError(f"Flower's {name} is not where it was; {consequence}")


@contextmanager
def patched_flower(
    gate: Gate,
    store: ObjectStore,
    heartbeat: Heartbeat,
    connection_error: LastConnectionError,
    deadline: ReplyDeadline,
    on_audit_error: Callable[[AuditError], NoReturn],
) -> Iterator[None]:
    """Patch Flower's SuperNode for as long as the block lasts.

    Args:
        gate: decides what leaves, and which bundles run.
        store: the node's object store.
        heartbeat: records each response of the coordinator.
        connection_error: records why there is none.
        deadline: the deadline of the request in work.
        on_audit_error: ends the node if a decision cannot be recorded.

    Raises:
        NodeError: as `check_flower_version`.
    """
    check_flower_version()
    connection = _gated_connection(gate, store, deadline, on_audit_error)
    with ExitStack() as stack:
        for module, name, replacement in (
            (start_client_internal, INIT_CONNECTION, connection),
            (start_client_internal, VERIFY_FAB, _approved_by(gate)),
            (start_client_internal, PUSH_REPLIES, _push_until_replied(deadline)),
            (fleet_http_connection, FLEET_CLIENT, _watched_client(heartbeat, connection_error)),
            (flower_heartbeat, HEARTBEAT_INTERVAL, HEARTBEAT_INTERVAL_S),
        ):
            stack.enter_context(_replaced(module, name, replacement))
        yield


def _gated_connection(
    gate: Gate,
    store: ObjectStore,
    deadline: ReplyDeadline,
    on_audit_error: Callable[[AuditError], NoReturn],
) -> Callable[..., Any]:
    original = getattr(start_client_internal, INIT_CONNECTION)

    @contextmanager
    def connect(**settings: Any) -> Iterator[FlowerConnection]:
        with original(**settings) as functions:
            inner = FlowerConnection(*functions)
            yield GatedConnection(inner, gate, store, deadline, on_audit_error).functions()

    return connect


def _approved_by(gate: Gate) -> Callable[[Fab, Any], bool]:
    return lambda fab, _trusted: gate.approves(hashlib.sha256(fab.content).hexdigest())


def _push_until_replied(deadline: ReplyDeadline) -> Callable[..., None]:
    """Return Flower's push function, repeated until the request in work has its own reply.

    Flower pushes whatever reply is there and takes it for the present request's. A reply to a
    request that Flower did not store after all, because its app was faster than that news, would
    be taken for the next request's; from then on every reply would be one request late.
    """
    original = getattr(start_client_internal, PUSH_REPLIES)

    def push(**settings: Any) -> None:
        original(**settings)
        while deadline.runs:
            original(**settings)

    return push


def _watched_client(
    heartbeat: Heartbeat, connection_error: LastConnectionError
) -> type[FleetHttpClient]:
    class WatchedClient(FleetHttpClient):
        """Flower's client, which records the coordinator's responses and retries after HTTP 500.

        Flower itself retries without a limit after 502 to 504 and a lost connection, but gives up
        after a 500. Retrying a few times keeps one transient fault from costing a round.
        """

        def _unary_unary(self, **call: Any) -> Any:
            pauses = iter(PAUSES_AFTER_500_S)
            while True:
                try:
                    response = super()._unary_unary(**call)
                except httpx.HTTPError as error:
                    connection_error.reason = explain(error)
                    pause = next(pauses, None) if _internal_error(error) else None
                    if pause is None:
                        raise
                    log.warning("the coordinator returned HTTP 500; retrying in %.0f s", pause)
                    time.sleep(pause)
                else:
                    heartbeat.beat()
                    connection_error.reason = None
                    return response

    return WatchedClient


def _internal_error(error: httpx.HTTPError) -> bool:
    return (
        isinstance(error, httpx.HTTPStatusError)
        and error.response.status_code == httpx.codes.INTERNAL_SERVER_ERROR
    )


@contextmanager
def _replaced(module: ModuleType, name: str, replacement: Any) -> Iterator[None]:
    original = getattr(module, name)
    setattr(module, name, replacement)
    try:
        yield
    finally:
        setattr(module, name, original)
