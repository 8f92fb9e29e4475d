"""The node's connection to the coordinator, with the gate in the only way out.

Flower's worker loop is handed eight functions: among them `send`, which announces an answer, and
`push_object`, which sends a piece of it. Both are replaced. `send` lets the gate make the message,
announces and sends that one, and tells the loop that nothing is left to push; `push_object` sends
nothing for anybody. What the server asks is noted as it comes in, to hold the answer against.
"""

from __future__ import annotations

import hashlib
import logging
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple, NoReturn, TypeVar

from flwr.app import Message
from flwr.proto.message_pb2 import ObjectTree
from flwr.supercore.constant import TaskType
from flwr.supercore.fab import Fab
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects, get_object_tree
from flwr.supercore.object_store import ObjectStore
from flwr.supercore.run import Run, RunNotRunningException

from client.site.gate import Gate
from client.site.question import Question, read_question
from client.site.refused import RefusedError
from common.errors import AuditError

WAIT_FOR_CONTENT_S = 120.0
"""An app that dies while it hands over its answer must not hold the node for ever."""
_POLL_S = 0.05

log = logging.getLogger("fedvitals.node")

Decision = TypeVar("Decision")


class Connection(NamedTuple):
    """What Flower's `_init_connection` yields, in its order."""

    node_id: int
    receive: Callable[[], tuple[Message, ObjectTree] | None]
    send: Callable[[Message, ObjectTree, float], tuple[set[str], str]]
    get_run: Callable[[int], Run]
    get_fab: Callable[[str, int], Fab]
    pull_object: Callable[[int, str], bytes]
    push_object: Callable[[int, str, str, bytes], None]
    confirm_message_received: Callable[[int, str], None]


@dataclass
class _Arriving:
    """A message of the server that is being fetched."""

    message: Message
    tree: ObjectTree
    contents: dict[str, bytes] = field(default_factory=dict)


class Deadline:
    """Until when an answer to the message in work is of use; shared with a thread that watches it.

    Flower waits for an answer for ever, and takes no other message meanwhile.
    """

    def __init__(self) -> None:
        self._until = math.inf

    def set(self, seconds: float) -> None:
        """Begin to count."""
        self._until = time.monotonic() + seconds

    def clear(self) -> None:
        """Nothing is in work."""
        self._until = math.inf

    @property
    def runs(self) -> bool:
        """Whether a message is in work."""
        return self._until < math.inf

    @property
    def passed(self) -> bool:
        """Whether an answer would come too late."""
        return time.monotonic() > self._until


@contextmanager
def _as_failure() -> Iterator[None]:
    """Let Flower forget a message whose run is stopped while it comes in, task and all.

    Flower tells that by a `BaseException`, which passes by its own handling of a message that
    cannot be fetched: an app would be started for it, and its answer, or the news of its death,
    would take the place of the next message's.
    """
    try:
        yield
    except RunNotRunningException as stopped:
        raise RuntimeError("its run was stopped") from stopped


class GatedConnection:
    """A connection whose answers pass the gate.

    Args:
        inner: Flower's own connection.
        gate: decides what leaves.
        store: the node's object store, in which answers lie.
        deadline: of the message in work.
        on_audit_error: ends the node, since Flower would go on after any exception.
    """

    def __init__(
        self,
        inner: Connection,
        gate: Gate,
        store: ObjectStore,
        deadline: Deadline,
        on_audit_error: Callable[[AuditError], NoReturn],
    ) -> None:
        self._inner = inner
        self._gate = gate
        self._store = store
        self._deadline = deadline
        self._on_audit_error = on_audit_error
        self._arriving: _Arriving | None = None
        self._open: dict[str, Question] = {}
        self._not_taken: set[str] = set()
        self._bundles: dict[int, str] = {}

    def functions(self) -> Connection:
        """Return what Flower's loop gets."""
        return Connection(
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
        """Fetch a message of the server and note it; without its content it stays unanswerable.

        Flower asks once for each run whether its bundle is approved. Here that is asked for each
        message, so that an app whose approval was withdrawn is not started again.
        """
        # What is still open was not taken, and whatever answers it answers nothing any more.
        self._deadline.clear()
        self._not_taken |= self._open.keys()
        self._open.clear()
        self._arriving = None
        received = self._inner.receive()
        if received is None:
            return None
        message, tree = received
        question = Question(message, message.metadata.message_type)
        bundle = self._bundles.get(message.metadata.run_id)
        if bundle is not None and not self._gate.approves(bundle):
            self._send(self._decide(lambda: self._gate.turn_away(question, bundle)), 0.0)
            return None
        self._arriving = _Arriving(message, tree)
        self._open = {message.metadata.message_id: question}
        self._deadline.set(message.metadata.ttl)
        return received

    def pull_object(self, run_id: int, object_id: str) -> bytes:
        """Fetch a piece of the message and keep it until the message is complete."""
        with _as_failure():
            content = self._inner.pull_object(run_id, object_id)
        if self._arriving is not None:
            self._arriving.contents[object_id] = content
        return content

    def confirm_message_received(self, run_id: int, object_id: str) -> None:
        """The message is complete: note what it asks."""
        arriving, self._arriving = self._arriving, None
        if arriving is not None and arriving.message.metadata.message_id == object_id:
            self._open[object_id] = read_question(
                arriving.message, arriving.tree, arriving.contents.__getitem__
            )
        with _as_failure():
            self._inner.confirm_message_received(run_id, object_id)

    def get_run(self, run_id: int) -> Run:
        """Fetch what a run is; only training runs are known here.

        An agent's run would be given tools and models on the internet by Flower's own processes.
        """
        run = self._inner.get_run(run_id)
        if run.primary_task_type == TaskType.AGENT_APP:
            raise RuntimeError(
                "the coordinator started a run of agents, which no site takes part in"
            )
        return run

    def get_fab(self, fab_hash: str, run_id: int) -> Fab:
        """Fetch the app bundle; its digest is taken here and not believed."""
        fab = self._inner.get_fab(fab_hash, run_id)
        self._bundles[run_id] = hashlib.sha256(fab.content).hexdigest()
        # Flower asks `_verify_fab` only about a bundle that says it has been verified.
        return Fab(fab.hash_str, fab.content, {**fab.verifications, "valid_license": "by policy"})

    def send(
        self, message: Message, tree: ObjectTree, clientapp_runtime: float
    ) -> tuple[set[str], str]:
        """Send what the gate makes of an answer; the loop is told that nothing is left to push."""
        question = self._open.pop(message.metadata.reply_to_message_id, None)
        if question is None:
            self._decide(lambda: self._gate.drop("it answers no question of the server"))
            if message.metadata.reply_to_message_id not in self._not_taken:
                self._deadline.clear()  # else the awaited one is still to come
            return set(), ""
        self._deadline.clear()
        bundle = self._bundles.get(question.message.metadata.run_id, "")
        allowed = self._decide(
            lambda: self._gate.pass_on(question, message, tree, self._read, bundle)
        )
        self._send(allowed, clientapp_runtime)
        return set(), ""

    def _decide(self, decision: Callable[[], Decision]) -> Decision:
        try:
            return decision()
        except AuditError as problem:
            self._on_audit_error(problem)

    def _send(self, allowed: Message, clientapp_runtime: float) -> None:
        """Announce and send a message that the gate has made."""
        allowed.metadata.__dict__["_message_id"] = allowed.object_id
        contents = {name: one.deflate() for name, one in get_all_nested_objects(allowed).items()}
        due, session = self._inner.send(allowed, get_object_tree(allowed), clientapp_runtime)
        for object_id in contents:
            if object_id in due:
                self._inner.push_object(
                    allowed.metadata.run_id, session, object_id, contents[object_id]
                )

    def push_object(self, _run_id: int, _session: str, _object_id: str, _contents: bytes) -> None:
        """Send nothing: what the gate allowed has been sent already."""
        raise RefusedError("push", "a piece of a message that the gate has not made")

    def _read(self, object_id: str) -> bytes:
        """The bytes of an object of an answer, as soon as the app has handed it over."""
        deadline = time.monotonic() + WAIT_FOR_CONTENT_S
        while True:
            content: Any = self._store.get(object_id)
            if content is None or time.monotonic() > deadline:
                raise RefusedError("damaged", "an answer of which a part never came")
            if content != b"":
                return bytes(content)
            time.sleep(_POLL_S)
