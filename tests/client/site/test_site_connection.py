"""What a node does with a message before the app sees it, and when it cannot record an answer."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn, cast

import pytest
from flwr.app import Error, Message, Metadata, RecordDict
from flwr.common.constant import ErrorCode, SubStatus
from flwr.proto.message_pb2 import ObjectTree
from flwr.supercore.fab import Fab
from flwr.supercore.inflatable.inflatable_object import get_object_tree
from flwr.supercore.object_store import ObjectStore, ObjectStoreFactory
from flwr.supercore.run import Run, RunNotRunningException
from flwr.supernode import start_client_internal
from flwr.supernode.nodestate import NodeStateFactory

from client.site.audit import AuditLog, read_entries
from client.site.connection import Connection, Deadline, GatedConnection
from client.site.gate import Gate
from client.site.policy import PolicyFile
from client.site.rules import Site
from client.site.seams import _push_until_answered
from common.errors import AuditError
from tests.integration.deployed import replaced

RUN = 7
CONTENT = b"the app"


class Coordinator:
    """Sends one message after the other, and keeps what comes back."""

    def __init__(self) -> None:
        self.sent: list[Message] = []
        self.silent = False
        self.stopped = False
        self.name = "question"

    def functions(self) -> Connection:
        return Connection(
            1,
            self.pull,
            self.send,
            lambda _run: cast(Any, None),
            lambda digest, _run: Fab(digest, CONTENT, {}),
            self.fetch,
            lambda *_: None,
            self.confirm,
        )

    def pull(self) -> tuple[Message, ObjectTree] | None:
        return None if self.silent else self.receive()

    def receive(self) -> tuple[Message, ObjectTree]:
        metadata = Metadata(RUN, self.name, 1, 2, "", "", 1.0, 30.0, "query", 1, 1)
        message = Message(content=RecordDict(), metadata=metadata)  # type: ignore[call-overload]
        return message, get_object_tree(message)

    def fetch(self, _run: int, _name: str) -> bytes:
        if self.stopped:
            raise RunNotRunningException
        return b""

    def confirm(self, run: int, name: str) -> None:
        self.fetch(run, name)

    def send(self, message: Message, _tree: ObjectTree, _s: float) -> tuple[set[str], str]:
        self.sent.append(message)
        return set(), ""


class Ended(Exception):  # noqa: N818
    """In the place of the process's end."""


def end(problem: AuditError) -> NoReturn:
    raise Ended(str(problem))


@pytest.fixture
def coordinator() -> Coordinator:
    return Coordinator()


@pytest.fixture
def deadline() -> Deadline:
    return Deadline()


@pytest.fixture
def gate(tmp_path: Path) -> Gate:
    (tmp_path / "policy.toml").write_text(replaced("policy.toml", {}))
    policy = PolicyFile(tmp_path / "policy.toml")
    return Gate(Site("micu", 100), policy.current, AuditLog(tmp_path / "audit.jsonl"))


@pytest.fixture
def connection(gate: Gate, coordinator: Coordinator, deadline: Deadline) -> Connection:
    store = cast(ObjectStore, None)
    return GatedConnection(coordinator.functions(), gate, store, deadline, end).functions()


def test_an_app_whose_approval_was_withdrawn_gets_no_more_messages(
    connection: Connection, coordinator: Coordinator, tmp_path: Path, deadline: Deadline
) -> None:
    assert connection.receive() is not None, "of a run that is not known Flower asks itself"
    connection.get_fab("digest", RUN)
    assert connection.receive() is None
    (answer,) = coordinator.sent
    assert answer.error.code == ErrorCode.INVALID_FAB
    (entry,) = read_entries(tmp_path / "audit.jsonl")
    assert (entry["decision"], entry["reason"]) == ("refused", "bundle")


def test_a_message_has_the_time_that_the_server_waits(
    connection: Connection, deadline: Deadline, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [1000.0]
    monkeypatch.setattr("client.site.connection.time.monotonic", lambda: now[0])
    assert not deadline.passed
    connection.receive()
    now[0] += 29.0
    assert not deadline.passed
    now[0] += 2.0
    assert deadline.passed
    deadline.clear()
    assert not deadline.passed


def test_an_answer_to_a_stopped_run_does_not_take_the_place_of_the_next(
    coordinator: Coordinator, gate: Gate, deadline: Deadline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where a message is not taken because its run was stopped, and its app answers it still."""
    objects = ObjectStoreFactory()
    state, store = NodeStateFactory(objectstore_factory=objects).state(), objects.store()
    connection = GatedConnection(coordinator.functions(), gate, store, deadline, end).functions()
    push = _push_until_answered(deadline)
    coordinator.name = "earlier"
    earlier, _ = connection.receive() or (None, None)
    coordinator.name = "question"
    awaited, _ = connection.receive() or (None, None)
    assert earlier is not None
    assert awaited is not None

    def answer(question: Message) -> None:
        error = Message(Error(ErrorCode.CLIENT_APP_CRASHED), reply_to=question)
        start_client_internal._insert_message(error, state, store)

    answer(earlier)
    # The awaited answer comes when Flower has begun to wait once more.
    waits = SimpleNamespace(sleep=lambda _seconds: answer(awaited))
    monkeypatch.setattr(start_client_internal, "time", waits)
    push(
        state=state,
        object_store=store,
        send=connection.send,
        push_object=connection.push_object,
    )
    (sent,) = coordinator.sent
    assert sent.metadata.reply_to_message_id == "question"
    assert not deadline.runs


def test_an_app_that_answers_no_question_is_not_waited_for(
    coordinator: Coordinator, connection: Connection, deadline: Deadline
) -> None:
    connection.receive()
    other, tree = coordinator.receive()
    other.metadata.__dict__["_message_id"] = "made up"
    connection.send(Message(Error(ErrorCode.CLIENT_APP_CRASHED), reply_to=other), tree, 0.0)
    assert not coordinator.sent
    assert not deadline.runs


def test_a_message_whose_run_is_stopped_while_it_comes_in_is_forgotten(
    coordinator: Coordinator, connection: Connection
) -> None:
    """By Flower's own worker, so that no app works on it."""
    objects = ObjectStoreFactory()
    state = NodeStateFactory(objectstore_factory=objects).state()
    state.store_run(Run.create_empty(RUN))
    coordinator.stopped = True
    run = start_client_internal._pull_and_store_message(
        state=state,
        object_store=objects.store(),
        node_config={},
        receive=connection.receive,
        get_run=connection.get_run,
        get_fab=connection.get_fab,
        pull_object=connection.pull_object,
        confirm_message_received=connection.confirm_message_received,
        trusted_entities={},
    )
    assert run is None
    assert not state.get_messages_legacy()
    (task,) = state.get_tasks()
    assert task.status.sub_status == SubStatus.FAILED


def test_a_message_that_was_not_taken_is_not_waited_for(
    coordinator: Coordinator, connection: Connection, deadline: Deadline
) -> None:
    connection.receive()
    assert deadline.runs
    coordinator.silent = True
    assert connection.receive() is None
    assert not deadline.runs


def test_where_nothing_can_be_recorded_the_node_ends_and_nothing_goes(
    connection: Connection,
    coordinator: Coordinator,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full(*_: Any) -> int:
        raise OSError(28, "No space left on device")

    connection.receive()
    connection.get_fab("digest", RUN)
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(Ended, match=r"cannot be written \(No space left on device\)"):
        connection.receive()
    assert coordinator.sent == []
    assert (tmp_path / "audit.jsonl").read_bytes() == b"", "no half of a line stays"
