"""Where this package takes hold of Flower's SuperNode, and what it puts there.

The names are internal to Flower 1.41.0, which is pinned exactly. A node does not start where the
release is another one or a name is gone: it would run without its gate.
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import ModuleType
from typing import Any

import flwr
import httpx
from flwr.supercore.fab import Fab
from flwr.supercore.object_store import ObjectStore
from flwr.supernode import fleet_http_connection, start_client_internal
from flwr.supernode.fleet_http_client import FleetHttpClient

from client.site.connection import Connection, GatedConnection
from client.site.gate import Gate
from client.site.health import Pulse
from client.site.policy import Policy
from client.site.trouble import explain
from common.errors import NodeError, PolicyError

RELEASE = "1.41.0"
CONNECTION, VERIFY, CLIENT = "_init_connection", "_verify_fab", "FleetHttpClient"
"""In `start_client_internal` the first two, in `fleet_http_connection` the third."""


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
    for name, calls, module in (
        (CONNECTION, f"with {CONNECTION}(", worker),
        (VERIFY, f"= {VERIFY}(fab, trusted_entities)", worker),
        (CLIENT, f"with {CLIENT}.from_server_address(", connection),
    ):
        if calls not in module:
            raise NodeError(f"Flower's {name} is not where it was; the gate would not be asked")


@contextmanager
def gated(
    gate: Gate,
    store: ObjectStore,
    policy: Callable[[], Policy],
    pulse: Pulse,
    trouble: Trouble,
) -> Iterator[None]:
    """Put the gate, the list of approved bundles and the pulse into Flower's SuperNode.

    Raises:
        NodeError: as `check_release`.
    """
    check_release()
    with ExitStack() as stack:
        for module, name, replacement in (
            (start_client_internal, CONNECTION, _gated_connection(gate, store)),
            (start_client_internal, VERIFY, _approved_by(policy)),
            (fleet_http_connection, CLIENT, _watched_client(pulse, trouble)),
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


def _gated_connection(gate: Gate, store: ObjectStore) -> Callable[..., Any]:
    original = getattr(start_client_internal, CONNECTION)

    @contextmanager
    def connect(**settings: Any) -> Iterator[Connection]:
        with original(**settings) as functions:
            yield GatedConnection(Connection(*functions), gate, store).functions()

    return connect


def _approved_by(policy: Callable[[], Policy]) -> Callable[[Fab, Any], bool]:
    def approved(fab: Fab, _trusted: Any) -> bool:
        try:
            return hashlib.sha256(fab.content).hexdigest() in policy().bundles
        except PolicyError:
            return False

    return approved


def _watched_client(pulse: Pulse, trouble: Trouble) -> type[FleetHttpClient]:
    class WatchedClient(FleetHttpClient):
        """Flower's client, noting each answer of the coordinator and each lasting refusal."""

        def _unary_unary(self, **call: Any) -> Any:
            try:
                response = super()._unary_unary(**call)
            except httpx.HTTPError as error:
                trouble.reason = explain(error)
                raise
            pulse.beat()
            trouble.reason = None
            return response

    return WatchedClient
