"""The node's connection to the coordinator, with the gate in its only way out.

Flower's worker loop works with eight functions (`FlowerConnection`). Replaced are those that
receive a request (`receive`, `get_run`, `get_fab`, `pull_object`, `confirm_message_received`) and
those that send a reply (`send`, `push_object`):

- `receive` fetches a request whole, and passes it to Flower only if the gate admits it. Flower is
  then given exactly what was checked; nothing is fetched again.
- `send` lets the gate build the message, sends it with all its objects, and reports to the loop
  that nothing is left to push. `push_object` always fails.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple, NoReturn, TypeVar

from flwr.app import Message
from flwr.proto.message_pb2 import ObjectTree
from flwr.supercore.fab import Fab
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects, get_object_tree
from flwr.supercore.inflatable.inflatable_utils import pull_objects
from flwr.supercore.object_store import ObjectStore
from flwr.supercore.run import Run, RunNotRunningException

from client.egress.gate import Gate
from client.egress.message_parser import MAX_OBJECTS, ReadObject
from client.egress.server_request import MAX_REQUEST_BYTES, ServerRequest, parse_request
from client.node.reply_deadline import ReplyDeadline
from client.node.run_cache import RunCache
from client.policy.refusal import RefusedError
from common.errors import AuditError

WAIT_FOR_CONTENT_S = 120.0
"""For a whole reply: an app that dies while it writes one must not block the node for good."""
MAX_RECORDED_DROPS = 10
"""Replies to no open request that are recorded per request: an app may send any number."""
_POLL_S = 0.05

log = logging.getLogger("fedvitals.node")

Decision = TypeVar("Decision")


class FlowerConnection(NamedTuple):
    """The functions that Flower's `_init_connection` yields, in its order."""

    node_id: int
    receive: Callable[[], tuple[Message, ObjectTree] | None]
    send: Callable[[Message, ObjectTree, float], tuple[set[str], str]]
    get_run: Callable[[int], Run]
    get_fab: Callable[[str, int], Fab]
    pull_object: Callable[[int, str], bytes]
    push_object: Callable[[int, str, str, bytes], None]
    confirm_message_received: Callable[[int, str], None]


@dataclass
class _IncomingMessage:
    """An admitted message of the server, until Flower has stored it."""

    message: Message
    contents: dict[str, bytes]


class GatedConnection:
    """A connection whose requests and replies pass the gate.

    Args:
        inner: Flower's own connection.
        gate: decides what leaves.
        store: the node's object store, which holds the app's replies.
        deadline: the deadline of the request in work.
        on_audit_error: ends the node, since Flower would continue after any exception.
    """

    def __init__(
        self,
        inner: FlowerConnection,
        gate: Gate,
        store: ObjectStore,
        deadline: ReplyDeadline,
        on_audit_error: Callable[[AuditError], NoReturn],
    ) -> None:
        self._inner = inner
        self._gate = gate
        self._store = store
        self._deadline = deadline
        self._on_audit_error = on_audit_error
        self._incoming: _IncomingMessage | None = None
        self._open: dict[str, ServerRequest] = {}
        self._abandoned: set[str] = set()
        self._dropped = 0
        self._runs = RunCache(inner.get_run, inner.get_fab, gate.approves)

    def functions(self) -> FlowerConnection:
        """Return the functions for Flower's loop."""
        return FlowerConnection(
            self._inner.node_id,
            self.receive,
            self.send,
            self.get_run,
            self.get_fab,
            self.pull_object,
            self.push_object,
            self.confirm_message_received,
        )

    def receive(self) -> tuple[Message, ObjectTree] | None:
        """Fetch a message of the server; return it to Flower only if the gate admits it.

        Flower checks a bundle's approval once per run. Here it is checked for each message, so
        that an app whose approval was withdrawn is not started again.
        """
        # Flower did not take a request that is still open; a late reply to it is dropped.
        self._deadline.clear()
        self._abandoned |= self._open.keys()
        self._open.clear()
        self._dropped = 0
        self._incoming = None
        received = self._inner.receive()
        if received is None:
            return None
        message, tree = received
        try:
            incoming, request = self._fetch(message, tree)
        except (Exception, RunNotRunningException) as problem:
            log.warning("a request could not be fetched: %s", type(problem).__name__)
            return None
        node_reply = self._decide(lambda: self._gate.admit(request))
        if node_reply is not None:
            self._confirm(message)
            if node_reply.message is not None:
                self._send(node_reply.message)
            return None
        self._incoming = incoming
        self._open = {message.metadata.message_id: request}
        self._deadline.set(message.metadata.ttl)
        return received

    def _fetch(self, message: Message, tree: ObjectTree) -> tuple[_IncomingMessage, ServerRequest]:
        """Fetch a message's objects and parse it; its run is fetched with the run's first."""
        contents = self._pull(message.metadata.run_id, _object_ids(tree))
        run = self._runs.load(message.metadata.run_id).submitted
        request = parse_request(message, tree, contents.__getitem__, run)
        return _IncomingMessage(message, contents), request

    def _pull(self, run_id: int, object_ids: list[str]) -> dict[str, bytes]:
        """Fetch objects by id; as in Flower, an object that the server lacks yet is retried.

        Raises:
            RefusedError: if they have too many bytes.
        """
        sizes: list[int] = []

        def pull(object_id: str) -> bytes:
            content = self._inner.pull_object(run_id, object_id)
            sizes.append(len(content))
            if sum(sizes) > MAX_REQUEST_BYTES:
                raise RefusedError("size", f"a request of more than {MAX_REQUEST_BYTES} bytes")
            return content

        return pull_objects(object_ids, pull)

    def _confirm(self, message: Message) -> None:
        """Confirm to the server a message that no app will see."""
        metadata = message.metadata
        try:
            self._inner.confirm_message_received(metadata.run_id, metadata.message_id)
        except (Exception, RunNotRunningException) as problem:
            log.warning("a request could not be confirmed: %s", type(problem).__name__)

    def get_run(self, run_id: int) -> Run:
        """Return to Flower the run that was checked."""
        return self._runs.run(run_id)

    def get_fab(self, _fab_hash: str, run_id: int) -> Fab:
        """Return to Flower the app bundle that was checked."""
        return self._runs.bundle(run_id)

    def pull_object(self, _run_id: int, object_id: str) -> bytes:
        """Return to Flower an object of the message that was checked."""
        if self._incoming is None:
            raise RefusedError("pull", "an object of no message")
        return self._incoming.contents[object_id]

    def confirm_message_received(self, run_id: int, object_id: str) -> None:
        """Confirm a message to the server once Flower has stored it."""
        self._incoming = None
        with _run_stopped_as_failure():
            self._inner.confirm_message_received(run_id, object_id)

    def send(
        self, message: Message, tree: ObjectTree, _clientapp_runtime: float
    ) -> tuple[set[str], str]:
        """Send the gate's message for a reply; report to the loop that nothing is left to push."""
        request = self._open.pop(message.metadata.reply_to_message_id, None)
        if request is None:
            self._dropped += 1
            if self._dropped <= MAX_RECORDED_DROPS:
                self._decide(lambda: self._gate.drop("it answers no open request of the server"))
            if message.metadata.reply_to_message_id not in self._abandoned:
                self._deadline.clear()  # otherwise the awaited reply is still to come
            return set(), ""
        self._deadline.clear()
        read = self._reader()
        allowed = self._decide(lambda: self._gate.filter_reply(request, message, tree, read))
        if allowed is not None:
            self._send(allowed)
        return set(), ""

    def _reader(self) -> ReadObject:
        """Return a function that waits for an object of a reply and returns its bytes."""
        deadline = time.monotonic() + WAIT_FOR_CONTENT_S

        def read(object_id: str) -> bytes:
            while True:
                content: Any = self._store.get(object_id)
                if content is None or time.monotonic() > deadline:
                    raise RefusedError("damaged", "a part of the reply is missing")
                if content != b"":
                    return bytes(content)
                time.sleep(_POLL_S)

        return read

    def _decide(self, decision: Callable[[], Decision]) -> Decision:
        try:
            return decision()
        except AuditError as problem:
            self._on_audit_error(problem)

    def _send(self, allowed: Message) -> None:
        """Announce and send a message that the gate has built.

        Flower's announcement has a field for the seconds that the app worked, in fourteen digits.
        They reveal how much data there is, and an app may choose them, so they are sent as zero.
        """
        allowed.metadata.__dict__["_message_id"] = allowed.object_id
        contents = {name: one.deflate() for name, one in get_all_nested_objects(allowed).items()}
        missing, session = self._inner.send(allowed, get_object_tree(allowed), 0.0)
        for object_id in contents:
            if object_id in missing:
                self._inner.push_object(
                    allowed.metadata.run_id, session, object_id, contents[object_id]
                )

    def push_object(self, _run_id: int, _session: str, _object_id: str, _contents: bytes) -> None:
        """Refuse: `send` has already sent all that the gate allows."""
        raise RefusedError("push", "an object of a message that the gate has not built")


def _object_ids(tree: ObjectTree) -> list[str]:
    """Return the ids of a message's objects, each once.

    Raises:
        RefusedError: if there are more than a message may have.
    """
    found: dict[str, None] = {}
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        if node.object_id not in found:
            found[node.object_id] = None
            waiting.extend(node.children)
        if len(found) > MAX_OBJECTS:
            raise RefusedError("objects", f"a request of more than {MAX_OBJECTS} objects")
    return list(found)


@contextmanager
def _run_stopped_as_failure() -> Iterator[None]:
    """Turn Flower's `RunNotRunningException` into an ordinary failure.

    It is a `BaseException`, which Flower's own handling of a message that cannot be fetched does
    not catch: an app would be started for the message, and its reply, or the error after its end,
    would be taken for the next message's. Flower forgets a message after an ordinary failure.
    """
    try:
        yield
    except RunNotRunningException as stopped:
        raise RuntimeError("its run was stopped") from stopped
