"""The node's connection to the coordinator, with the gate in the only way out.

Flower's worker loop is handed eight functions. `receive` fetches a message whole and gives it on
only where the gate admits it. `send`, which announces an answer, and `push_object`, which sends a
piece of it, are replaced: `send` lets the gate make the message, announces and sends that one, and
tells the loop that nothing is left to push; `push_object` sends nothing for anybody.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, NoReturn, TypeVar

from flwr.app import Message
from flwr.proto.message_pb2 import ObjectTree
from flwr.supercore.fab import Fab
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects, get_object_tree
from flwr.supercore.inflatable.inflatable_utils import pull_objects
from flwr.supercore.object_store import ObjectStore
from flwr.supercore.run import Run, RunNotRunningException

from client.egress.gate import Gate
from client.egress.message_parser import MAX_OBJECTS, Read
from client.egress.server_request import MAX_BYTES, Question, read_question
from client.node.reply_deadline import Deadline
from client.policy.refusal import RefusedError
from client.policy.submitted_run import RunFacts, bundle_digest, read_run
from common.errors import AuditError

WAIT_FOR_CONTENT_S = 120.0
"""For a whole answer: an app that dies while it hands it over must not hold the node for ever."""
MOST_DROPPED = 10
"""Answers to no question that are recorded while one message is in work: an app may make any."""
MOST_RUNS = 10_000
"""Runs whose settings are held: until the node is started again."""
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
    """A message of the server that the gate admits, until Flower has it."""

    message: Message
    contents: dict[str, bytes]


@dataclass
class _KnownRun:
    """A run as the coordinator described it, and as the gate judges it."""

    run: Run
    facts: RunFacts


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
    """A connection whose questions and answers pass the gate.

    A question is fetched whole, with its run and app bundle, and the gate admits it before Flower
    sees it. Flower is then given what was judged, and nothing that is fetched anew.

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
        self._dropped = 0
        self._runs: dict[int, _KnownRun] = {}
        self._bundles: dict[str, Fab] = {}

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
        """Fetch a message of the server; give it to Flower only where the gate admits it.

        Flower asks once for each run whether its bundle is approved. Here that is asked for each
        message, so that an app whose approval was withdrawn is not started again.
        """
        # What is still open was not taken, and whatever answers it answers nothing any more.
        self._deadline.clear()
        self._not_taken |= self._open.keys()
        self._open.clear()
        self._dropped = 0
        self._arriving = None
        received = self._inner.receive()
        if received is None:
            return None
        message, tree = received
        try:
            arriving, question = self._fetch(message, tree)
        except (Exception, RunNotRunningException) as problem:
            log.warning("a message could not be fetched: %s", type(problem).__name__)
            return None
        answer = self._decide(lambda: self._gate.admit(question))
        if answer is not None:
            self._confirm(message)
            if answer.message is not None:
                self._send(answer.message)
            return None
        self._arriving = arriving
        self._open = {message.metadata.message_id: question}
        self._deadline.set(message.metadata.ttl)
        return received

    def _fetch(self, message: Message, tree: ObjectTree) -> tuple[_Arriving, Question]:
        """The pieces of a message, and what it asks; its run with the first message of it."""
        contents = self._pull(message.metadata.run_id, _object_ids(tree))
        known = self._known_run(message.metadata.run_id)
        question = read_question(message, tree, contents.__getitem__, known.facts)
        return _Arriving(message, contents), question

    def _pull(self, run_id: int, object_ids: list[str]) -> dict[str, bytes]:
        """The pieces by id; as Flower does, a piece that the server has not yet is asked for again.

        Raises:
            RefusedError: where they are too many bytes.
        """
        sizes: list[int] = []

        def pull(object_id: str) -> bytes:
            content = self._inner.pull_object(run_id, object_id)
            sizes.append(len(content))
            if sum(sizes) > MAX_BYTES:
                raise RefusedError("size", f"a question of more than {MAX_BYTES} bytes")
            return content

        return pull_objects(object_ids, pull)

    def _known_run(self, run_id: int) -> _KnownRun:
        """A run as it was when its first message came; what is not admitted is not kept.

        Flower keeps one context for a whole series of runs, the settings of the latest run in it,
        and hands them to the apps of all. Here each run is a series of its own, so that an app
        works with the settings that were judged.
        """
        known = self._runs.get(run_id)
        if known is not None:
            return known
        run = replace(self._inner.get_run(run_id), series_id=run_id)
        if run.run_id != run_id:
            raise RefusedError("run", "the coordinator describes another run")
        fab = self._inner.get_fab(run.fab_hash, run_id)
        digest = bundle_digest(fab)
        if not self._gate.approves(digest):
            return _KnownRun(run, RunFacts(digest))
        if len(self._runs) == MOST_RUNS:
            raise RefusedError("runs", f"{MOST_RUNS} runs since the node was started")
        known = _KnownRun(run, read_run(run, fab))
        if known.facts.settings is None:
            return known
        self._runs[run_id] = known
        self._bundles[digest] = fab
        return known

    def pull_object(self, _run_id: int, object_id: str) -> bytes:
        """Give Flower a piece of the message that was fetched."""
        if self._arriving is None:
            raise RefusedError("pull", "a piece of no message")
        return self._arriving.contents[object_id]

    def confirm_message_received(self, run_id: int, object_id: str) -> None:
        """Flower has the message."""
        self._arriving = None
        with _as_failure():
            self._inner.confirm_message_received(run_id, object_id)

    def _confirm(self, message: Message) -> None:
        """Tell the server that a message has come which no app will see."""
        metadata = message.metadata
        try:
            self._inner.confirm_message_received(metadata.run_id, metadata.message_id)
        except (Exception, RunNotRunningException) as problem:
            log.warning("a message could not be confirmed: %s", type(problem).__name__)

    def get_run(self, run_id: int) -> Run:
        """Give Flower the run as it was judged."""
        return self._runs[run_id].run

    def get_fab(self, _fab_hash: str, run_id: int) -> Fab:
        """Give Flower the app bundle as it was judged."""
        digest = self._runs[run_id].facts.bundle
        fab = self._bundles[digest]
        # Flower asks `_verify_fab` only about a bundle that says it has been verified.
        return Fab(digest, fab.content, {**fab.verifications, "valid_license": "by policy"})

    def send(
        self, message: Message, tree: ObjectTree, _clientapp_runtime: float
    ) -> tuple[set[str], str]:
        """Send what the gate makes of an answer; the loop is told that nothing is left to push."""
        question = self._open.pop(message.metadata.reply_to_message_id, None)
        if question is None:
            self._dropped += 1
            if self._dropped <= MOST_DROPPED:
                self._decide(lambda: self._gate.drop("it answers no question of the server"))
            if message.metadata.reply_to_message_id not in self._not_taken:
                self._deadline.clear()  # else the awaited one is still to come
            return set(), ""
        self._deadline.clear()
        read = self._reader()
        allowed = self._decide(lambda: self._gate.pass_on(question, message, tree, read))
        if allowed is not None:
            self._send(allowed)
        return set(), ""

    def _decide(self, decision: Callable[[], Decision]) -> Decision:
        try:
            return decision()
        except AuditError as problem:
            self._on_audit_error(problem)

    def _send(self, allowed: Message) -> None:
        """Announce and send a message that the gate has made.

        Flower's announcement has a field for the seconds that the app worked, in fourteen digits;
        they tell how much data there is, and an app may choose them. They leave as zero.
        """
        allowed.metadata.__dict__["_message_id"] = allowed.object_id
        contents = {name: one.deflate() for name, one in get_all_nested_objects(allowed).items()}
        due, session = self._inner.send(allowed, get_object_tree(allowed), 0.0)
        for object_id in contents:
            if object_id in due:
                self._inner.push_object(
                    allowed.metadata.run_id, session, object_id, contents[object_id]
                )

    def push_object(self, _run_id: int, _session: str, _object_id: str, _contents: bytes) -> None:
        """Send nothing: what the gate allowed has been sent already."""
        raise RefusedError("push", "a piece of a message that the gate has not made")

    def _reader(self) -> Read:
        """Return what gives an answer's objects, each as soon as the app has handed it over."""
        deadline = time.monotonic() + WAIT_FOR_CONTENT_S

        def read(object_id: str) -> bytes:
            while True:
                content: Any = self._store.get(object_id)
                if content is None or time.monotonic() > deadline:
                    raise RefusedError("damaged", "an answer of which a part never came")
                if content != b"":
                    return bytes(content)
                time.sleep(_POLL_S)

        return read


def _object_ids(tree: ObjectTree) -> list[str]:
    """The ids of a message's pieces, each once.

    Raises:
        RefusedError: where they are more than a message has.
    """
    found: dict[str, None] = {}
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        if node.object_id not in found:
            found[node.object_id] = None
            waiting.extend(node.children)
        if len(found) > MAX_OBJECTS:
            raise RefusedError("objects", f"a question of more than {MAX_OBJECTS} objects")
    return list(found)
