"""Status of a SuperLink's runs and nodes, queried at its control API.

Flower's commands `flwr ls` and `flwr supernode list` query the same, but each is a process that
takes a second of processor time to start, and a run's status is polled as long as the run lasts.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from common.errors import FederationError
from common.names import printable

if TYPE_CHECKING:
    import httpx
    from flwr.proto.node_pb2 import NodeInfo
    from flwr.supercore.control import ControlHttpClient
    from flwr.supercore.protobuf.client import ProtobufCall, ProtobufRequestContext

T = TypeVar("T")

_LONGEST_STATUS = 60
_DAY_S = 86_400.0

SILENT_AFTER_S = 15.0
"""A site's node sends a heartbeat every 4 s, and each may take 5 s."""


class ControlApi:
    """Client of a SuperLink's control API.

    Args:
        address: HOST:PORT of the SuperLink.
        ca: CA of its certificate; None for a SuperLink without TLS, in a simulation.
        credential: the operator's credential; empty for a SuperLink without operators.
    """

    def __init__(self, address: str, ca: Path | None = None, credential: str = "") -> None:
        self._address = address
        self._ca = ca
        self._credential = credential

    def runs(self, run: str = "") -> dict[str, str]:
        """Return the status of every run by id, e.g. ``finished:failed``; the newest run is first.

        Args:
            run: id of the only run to return; empty = all.

        Raises:
            FederationError: the SuperLink does not list them, or knows no such run.
        """
        # Flower is imported with the first query: most commands make none.
        from flwr.proto.control_pb2 import ListRunsRequest

        if run and not (run.isdecimal() and int(run) < 1 << 64):
            raise FederationError(f"the SuperLink knows no run {run}; a run's id is a number")
        request = ListRunsRequest(run_id=int(run)) if run else ListRunsRequest()
        problem = "Flower does not report the run's status" if run else "Flower does not list runs"
        answer = self._call(lambda client: client.ListRuns(request), problem)
        found = sorted(answer.run_dict.values(), key=lambda one: one.pending_at, reverse=True)
        if run and not found:
            raise FederationError(f"the SuperLink knows no run {run}")
        return {str(one.run_id): _shown(one.status.status, one.status.sub_status) for one in found}

    def nodes(self) -> dict[str, str]:
        """Return the status of every node by id: registered, online, offline or unregistered.

        A node that the SuperLink still calls online is ``not heard for 40 s`` after
        `SILENT_AFTER_S` without a heartbeat.

        Raises:
            FederationError: the SuperLink does not list them.
        """
        from flwr.proto.control_pb2 import ListNodesRequest

        answer = self._call(
            lambda client: client.ListNodes(ListNodesRequest()), "Flower does not list its nodes"
        )
        try:
            now = datetime.fromisoformat(answer.now)
        except ValueError:
            raise FederationError(
                f"Flower does not list its nodes: the SuperLink at {self._address} gives no valid "
                f"time, {printable(answer.now, _LONGEST_STATUS)!r}"
            ) from None
        return {str(node.node_id): _status(node, now) for node in answer.nodes_info}

    def _call(self, call: Callable[[ControlHttpClient], T], problem: str) -> T:
        import httpx
        from flwr.supercore.control import ControlHttpClient
        from flwr.supercore.interceptors import RuntimeVersionHttpInterceptor

        try:
            client = ControlHttpClient.from_server_address(
                self._address,
                insecure=self._ca is None,
                root_certificates=self._ca.read_bytes() if self._ca else None,
                interceptors=[
                    RuntimeVersionHttpInterceptor(component_name="flwr CLI"),
                    _Credential(self._credential),
                ],
            )
            return call(client)
        except httpx.HTTPStatusError as error:
            raise FederationError(f"{problem}: {_reason(error.response)}") from None
        except (httpx.HTTPError, OSError, ValueError) as error:
            raise FederationError(
                f"{problem}: the SuperLink at {self._address} does not answer: {error}"
            ) from None


def seconds_since_heard(node: NodeInfo, now: datetime) -> float | None:
    """Return the seconds since a node's last heartbeat; None if it is not online, or not known.

    The SuperLink calls a node online until two of its announced intervals have passed without a
    heartbeat, a minute. It reports when that will be, from which the last heartbeat follows.

    Args:
        node: as the SuperLink lists it.
        now: the SuperLink's time, with its offset.
    """
    from flwr.common.constant import HEARTBEAT_PATIENCE

    if node.status != "online" or not node.HasField("online_until"):
        return None
    heard = node.online_until - HEARTBEAT_PATIENCE * node.heartbeat_interval
    silent = max(0.0, now.timestamp() - float(heard))
    return silent if silent < _DAY_S else None


def _status(node: NodeInfo, now: datetime) -> str:
    heard = seconds_since_heard(node, now)
    if heard is not None and heard > SILENT_AFTER_S:
        return f"not heard for {heard:.0f} s"
    return _shown(node.status)


def _shown(*status: str) -> str:
    """Return a status as it may be shown: it is the SuperLink's text, not ours."""
    return printable(":".join(filter(None, status)), _LONGEST_STATUS)


class _Credential:
    """Interceptor that sends an operator's credential as a bearer token."""

    def __init__(self, credential: str) -> None:
        self._credential = credential

    def intercept(self, context: ProtobufRequestContext, call_next: ProtobufCall) -> httpx.Response:
        if self._credential:
            context.request.headers["Authorization"] = f"Bearer {self._credential}"
        return call_next(context)


def _reason(response: httpx.Response) -> str:
    """Return the reason in an error response: Flower's own, the guard's, or the status."""
    from flwr.supercore.error import FlowerError

    if error := FlowerError.from_json(response.text):
        return " ".join(filter(None, (str(error.message), error.public_details)))[:500]
    try:
        detail = response.json()["detail"]
    except (ValueError, KeyError, TypeError):
        return f"HTTP {response.status_code}"
    return str(detail)[:500]
