"""Where this package takes hold of Flower's SuperNode, and what it puts there.

The names are internal to Flower 1.41.0, which is pinned exactly. A node does not start where the
release is another one or a name is gone: it would run without its gate, or be lost to its rounds.
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
from flwr.supercore import heartbeat
from flwr.supercore.fab import Fab
from flwr.supercore.object_store import ObjectStore
from flwr.supernode import fleet_http_connection, start_client_internal
from flwr.supernode.fleet_http_client import FleetHttpClient

from client.egress.gate import Gate
from client.node.connection_errors import explain
from client.node.gated_connection import Connection, GatedConnection
from client.node.health import Pulse
from client.node.reply_deadline import Deadline
from common.errors import AuditError, NodeError

RELEASE = "1.41.0"
CONNECTION, VERIFY, PUSH = "_init_connection", "_verify_fab", "_push_messages"
"""In `start_client_internal`."""
CLIENT = "FleetHttpClient"
"""In `fleet_http_connection`."""
RHYTHM = "HEARTBEAT_DEFAULT_INTERVAL"
"""In `heartbeat`: the next is due after this less five seconds, and four fifths of that."""
RHYTHM_S = 10
"""A heartbeat every 4 s. The SuperLink gives a node up 60 s after its last one, and with it the
message in work: Flower's own 20 s, a connection that is gone for 30 and the pause until it is tried
again can be more than that. Announced are Flower's 30 s, of which the SuperLink waits for two."""
PAUSES_AFTER_500_S = (1.0, 2.0, 4.0, 8.0, 15.0)
"""Then the node ends, and is started again."""

log = logging.getLogger("fedvitals.node")


class Trouble:
    """Why the coordinator cannot be talked to, in words, if it is for somebody to mend."""

    def __init__(self) -> None:
        self.reason: str | None = None


def check_release() -> None:
    """Raise `NodeError` where Flower is not the one that this package takes hold of."""
    if flwr.__version__ != RELEASE:
        raise NodeError(f"flwr {flwr.__version__} is installed, the gate is made for {RELEASE}")
    worker = inspect.getsource(start_client_internal)
    connection = inspect.getsource(fleet_http_connection)
    sender = inspect.getsource(heartbeat)
    unasked = "the gate would not be asked"
    for name, calls, module, otherwise in (
        (CONNECTION, f"with {CONNECTION}(", worker, unasked),
        (VERIFY, f"= {VERIFY}(fab, trusted_entities)", worker, unasked),
        (PUSH, f"            {PUSH}(\n", worker, "answers could come a message late"),
        (CLIENT, f"with {CLIENT}.from_server_address(", connection, "health would be unknown"),
        (RHYTHM, f"next_interval: float = {RHYTHM} - ", sender, "a short drop could cost a round"),
    ):
        if calls not in module:
            raise NodeError(f"Flower's {name} is not where it was; {otherwise}")


@contextmanager
def gated(
    gate: Gate,
    store: ObjectStore,
    pulse: Pulse,
    trouble: Trouble,
    deadline: Deadline,
    on_audit_error: Callable[[AuditError], NoReturn],
) -> Iterator[None]:
    """Put the gate, the list of approved bundles, the pulse and its rhythm into Flower's SuperNode.

    Args:
        gate: decides what leaves, and which bundles run.
        store: the node's object store.
        pulse: notes each answer of the coordinator.
        trouble: notes why there is none.
        deadline: of the message in work.
        on_audit_error: ends the node where a decision cannot be recorded.

    Raises:
        NodeError: as `check_release`.
    """
    check_release()
    with ExitStack() as stack:
        for module, name, replacement in (
            (
                start_client_internal,
                CONNECTION,
                _gated_connection(gate, store, deadline, on_audit_error),
            ),
            (start_client_internal, VERIFY, _approved_by(gate)),
            (start_client_internal, PUSH, _push_until_answered(deadline)),
            (fleet_http_connection, CLIENT, _watched_client(pulse, trouble)),
            (heartbeat, RHYTHM, RHYTHM_S),
        ):
            stack.enter_context(_replaced(module, name, replacement))
        yield


@contextmanager
def _replaced(module: ModuleType, name: str, replacement: Any) -> Iterator[None]:
    original = getattr(module, name)
    setattr(module, name, replacement)
    try:
        yield
    finally:
        setattr(module, name, original)


def _gated_connection(
    gate: Gate,
    store: ObjectStore,
    deadline: Deadline,
    on_audit_error: Callable[[AuditError], NoReturn],
) -> Callable[..., Any]:
    original = getattr(start_client_internal, CONNECTION)

    @contextmanager
    def connect(**settings: Any) -> Iterator[Connection]:
        with original(**settings) as functions:
            inner = Connection(*functions)
            yield GatedConnection(inner, gate, store, deadline, on_audit_error).functions()

    return connect


def _approved_by(gate: Gate) -> Callable[[Fab, Any], bool]:
    return lambda fab, _trusted: gate.approves(hashlib.sha256(fab.content).hexdigest())


def _push_until_answered(deadline: Deadline) -> Callable[..., None]:
    """Return Flower's wait for an answer, gone on with until the message in work has its own.

    Flower pushes whatever answer is there. That to a message which was not taken after all, its app
    having been quicker than the news, would be taken for the next one's; from then on each answer
    would lie until the message after it comes: always too late.
    """
    original = getattr(start_client_internal, PUSH)

    def push(**settings: Any) -> None:
        original(**settings)
        while deadline.runs:
            original(**settings)

    return push


def _watched_client(pulse: Pulse, trouble: Trouble) -> type[FleetHttpClient]:
    class WatchedClient(FleetHttpClient):
        """Flower's client, noting each answer of the coordinator and each lasting refusal.

        Flower calls again after 502 to 504 and where the connection breaks, for as long as it
        takes. After a 500 it would never ask again; here it does a few times, so that one passing
        fault costs no round.
        """

        def _unary_unary(self, **call: Any) -> Any:
            pauses = iter(PAUSES_AFTER_500_S)
            while True:
                try:
                    response = super()._unary_unary(**call)
                except httpx.HTTPError as error:
                    trouble.reason = explain(error)
                    pause = next(pauses, None) if _internal_error(error) else None
                    if pause is None:
                        raise
                    log.warning("the coordinator answers HTTP 500; asking again in %.0f s", pause)
                    time.sleep(pause)
                else:
                    pulse.beat()
                    trouble.reason = None
                    return response

    return WatchedClient


def _internal_error(error: httpx.HTTPError) -> bool:
    return (
        isinstance(error, httpx.HTTPStatusError)
        and error.response.status_code == httpx.codes.INTERNAL_SERVER_ERROR
    )
