"""A node's handling of a message before the app sees it, and if a decision cannot be recorded."""

from __future__ import annotations

import hashlib
import os
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn, cast

import pytest
from flwr.app import Error, Message, Metadata, RecordDict
from flwr.app.message import remove_content_from_message
from flwr.cli.config_utils import get_fab_metadata
from flwr.common.constant import ErrorCode
from flwr.proto.message_pb2 import ObjectTree
from flwr.supercore.fab import Fab
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects, get_object_tree
from flwr.supercore.inflatable.inflatable_utils import ObjectUnavailableError
from flwr.supercore.object_store import ObjectStore, ObjectStoreFactory
from flwr.supercore.run import Run, RunNotRunningException
from flwr.supernode import start_client_internal
from flwr.supernode.nodestate import NodeStateFactory

from client.config.site_facts import SiteFacts
from client.egress.audit.audit_log import AuditLog
from client.egress.audit.hash_chain import read_entries
from client.egress.gate import Gate
from client.node.flower_patches import _push_until_replied
from client.node.gated_connection import MAX_RECORDED_DROPS, FlowerConnection, GatedConnection
from client.node.reply_deadline import ReplyDeadline
from client.policy.app_bundle import read_bundle
from client.policy.approval_editor import Grant, approve_bundle
from client.policy.policy import PolicyFile
from common.errors import AuditError
from tests.integration.setup.deployed import WITHOUT_PRIVACY, replaced
from tests.samples.approvals import STUDY, UNTIL

RUN = 7


class Coordinator:
    """Sends one message after the other, and keeps what comes back."""

    def __init__(self, bundle: bytes) -> None:
        self.sent: list[tuple[Message, float]] = []
        self.silent = False
        self.stopped = False
        self.late = 0
        self.name = "question"
        self.content = bundle
        self.settings: dict[str, Any] = {}
        self.asked: list[str] = []
        self._objects: dict[str, bytes] = {}

    def functions(self) -> FlowerConnection:
        return FlowerConnection(
            1,
            self.pull,
            self.send,
            self.get_run,
            self.get_fab,
            self.fetch,
            lambda *_: None,
            self.confirm,
        )

    def pull(self) -> tuple[Message, ObjectTree] | None:
        return None if self.silent else self.receive()

    def receive(self) -> tuple[Message, ObjectTree]:
        metadata = Metadata(RUN, "", 1, 2, "", self.name, 1.0, 30.0, "query", 1, 1)
        message = Message(content=RecordDict(), metadata=metadata)  # type: ignore[call-overload]
        metadata.__dict__["_message_id"] = message.object_id
        objects = get_all_nested_objects(message)
        self._objects = {name: one.deflate() for name, one in objects.items()}
        return remove_content_from_message(message), get_object_tree(message)

    def get_run(self, _run: int) -> Run:
        self.asked.append("run")
        run = Run.create_empty(RUN)
        run.override_config = dict(self.settings)
        run.fab_hash = hashlib.sha256(self.content).hexdigest()
        run.fab_id, run.fab_version = get_fab_metadata(self.content)
        return run

    def get_fab(self, digest: str, _run: int) -> Fab:
        self.asked.append("fab")
        return Fab(digest, self.content, {})

    def fetch(self, _run: int, name: str) -> bytes:
        if self.stopped:
            raise RunNotRunningException
        if self.late:
            self.late -= 1
            raise ObjectUnavailableError(name)
        return self._objects[name]

    def confirm(self, _run: int, _name: str) -> None:
        if self.stopped:
            raise RunNotRunningException

    def send(self, message: Message, _tree: ObjectTree, worked_s: float) -> tuple[set[str], str]:
        self.sent.append((message, worked_s))
        return set(), ""


class Ended(Exception):  # noqa: N818
    """Raised instead of exiting."""


def end(problem: AuditError) -> NoReturn:
    raise Ended(str(problem))


@pytest.fixture
def coordinator(app_bundle: bytes) -> Coordinator:
    return Coordinator(app_bundle)


@pytest.fixture
def deadline() -> ReplyDeadline:
    return ReplyDeadline()


@pytest.fixture
def policy(tmp_path: Path, app_bundle: bytes) -> Path:
    """The shipped policy without privacy, and the app approved."""
    path = tmp_path / "policy.toml"
    path.write_text(replaced("policy.toml", WITHOUT_PRIVACY))
    (tmp_path / "app.fab").write_bytes(app_bundle)
    grant = Grant("A. Meyer", STUDY, UNTIL)
    approve_bundle(path, read_bundle(tmp_path / "app.fab"), grant, datetime.now(UTC))
    return path


@pytest.fixture
def gate(tmp_path: Path, policy: Path) -> Gate:
    site = SiteFacts("micu", 100)
    return Gate(site, PolicyFile(policy).current, AuditLog(tmp_path / "audit.jsonl"))


@pytest.fixture
def connection(gate: Gate, coordinator: Coordinator, deadline: ReplyDeadline) -> FlowerConnection:
    store = cast(ObjectStore, None)
    return GatedConnection(coordinator.functions(), gate, store, deadline, end).functions()


def withdraw(policy: Path) -> None:
    """Withdraw the approval of every bundle."""
    text = policy.read_text()
    policy.write_text(text[: text.index("[[bundles]]\nsha256")])


def test_an_app_whose_approval_was_withdrawn_gets_no_more_messages(
    connection: FlowerConnection, coordinator: Coordinator, tmp_path: Path, policy: Path
) -> None:
    assert connection.receive() is not None
    withdraw(policy)
    assert connection.receive() is None
    ((answer, worked_s),) = coordinator.sent
    assert answer.error.code == ErrorCode.INVALID_FAB
    assert worked_s == 0.0
    (entry,) = read_entries(tmp_path / "audit.jsonl")
    assert (entry["decision"], entry["reason"]) == ("refused", "bundle")


def test_flower_is_given_what_was_judged_and_nothing_that_is_fetched_anew(
    connection: FlowerConnection, coordinator: Coordinator, app_bundle: bytes
) -> None:
    assert connection.receive() is not None
    coordinator.settings = {"windows.stride": 1}
    coordinator.content = b"another"
    assert connection.get_run(RUN).override_config == {}
    assert connection.get_fab("any", RUN).content == app_bundle
    assert coordinator.asked == ["run", "fab"]


def test_a_piece_that_the_server_has_not_yet_is_asked_for_again(
    connection: FlowerConnection, coordinator: Coordinator
) -> None:
    coordinator.late = 2
    assert connection.receive() is not None


def test_a_run_whose_settings_the_policy_does_not_accept_starts_no_app(
    connection: FlowerConnection, coordinator: Coordinator, tmp_path: Path
) -> None:
    coordinator.settings = {"windows.stride": 1}
    assert connection.receive() is None
    ((answer, _),) = coordinator.sent
    assert answer.error.reason == "refused by the site's policy: settings"
    (entry,) = read_entries(tmp_path / "audit.jsonl")
    assert entry["reason"] == "settings"
    assert "windows.stride = 1" in entry["detail"]
    assert entry["settings"]["changed"] == {"windows.stride": 1}
    assert len(entry["settings"]["sha256"]) == 64


def test_a_message_has_the_time_that_the_server_waits(
    connection: FlowerConnection, deadline: ReplyDeadline, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [1000.0]
    monkeypatch.setattr("client.node.reply_deadline.time.monotonic", lambda: now[0])
    assert not deadline.passed
    connection.receive()
    now[0] += 29.0
    assert not deadline.passed
    now[0] += 2.0
    assert deadline.passed
    deadline.clear()
    assert not deadline.passed


@pytest.mark.parametrize(
    ("said_s", "given_s"),
    [(-1.0, 10.0), (0.0, 10.0), (1e300, 86_400.0), (float("nan"), 86_400.0)],
)
def test_whatever_the_server_says_an_app_has_some_time_and_no_more_than_a_day(
    deadline: ReplyDeadline, monkeypatch: pytest.MonkeyPatch, said_s: float, given_s: float
) -> None:
    now = [1000.0]
    monkeypatch.setattr("client.node.reply_deadline.time.monotonic", lambda: now[0])
    deadline.set(said_s)
    now[0] += given_s
    assert not deadline.passed
    now[0] += 1.0
    assert deadline.passed


def test_an_answer_to_a_stopped_run_does_not_take_the_place_of_the_next(
    coordinator: Coordinator, gate: Gate, deadline: ReplyDeadline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A message is not stored because its run was stopped, but its app still answers it."""
    objects = ObjectStoreFactory()
    state, store = NodeStateFactory(objectstore_factory=objects).state(), objects.store()
    connection = GatedConnection(coordinator.functions(), gate, store, deadline, end).functions()
    push = _push_until_replied(deadline)
    coordinator.name = "earlier"
    earlier, _ = connection.receive() or (None, None)
    coordinator.name = "question"
    awaited, _ = connection.receive() or (None, None)
    assert earlier is not None
    assert awaited is not None

    def answer(request: Message) -> None:
        error = Message(Error(ErrorCode.CLIENT_APP_CRASHED), reply_to=request)
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
    ((sent, worked_s),) = coordinator.sent
    assert worked_s == 0.0
    assert sent.metadata.reply_to_message_id == awaited.metadata.message_id
    assert not deadline.runs


def test_an_app_that_answers_no_request_is_not_waited_for(
    coordinator: Coordinator, connection: FlowerConnection, deadline: ReplyDeadline
) -> None:
    connection.receive()
    other, tree = coordinator.receive()
    other.metadata.__dict__["_message_id"] = "made up"
    connection.send(Message(Error(ErrorCode.CLIENT_APP_CRASHED), reply_to=other), tree, 0.0)
    assert not coordinator.sent
    assert not deadline.runs


def test_an_app_fills_no_audit_log_with_answers_to_nothing(
    coordinator: Coordinator, connection: FlowerConnection, tmp_path: Path
) -> None:
    connection.receive()
    other, tree = coordinator.receive()
    other.metadata.__dict__["_message_id"] = "made up"
    stray = Message(Error(ErrorCode.CLIENT_APP_CRASHED), reply_to=other)
    for _ in range(1000):
        connection.send(stray, tree, 0.0)
    dropped = [entry["decision"] for entry in read_entries(tmp_path / "audit.jsonl")]
    assert dropped == ["dropped"] * MAX_RECORDED_DROPS


def test_a_message_whose_run_is_stopped_while_it_comes_in_is_forgotten(
    coordinator: Coordinator, connection: FlowerConnection
) -> None:
    coordinator.stopped = True
    assert connection.receive() is None
    assert coordinator.sent == []
    coordinator.stopped = False
    assert connection.receive() is not None


def test_a_message_that_was_not_taken_is_not_waited_for(
    coordinator: Coordinator, connection: FlowerConnection, deadline: ReplyDeadline
) -> None:
    connection.receive()
    assert deadline.runs
    coordinator.silent = True
    assert connection.receive() is None
    assert not deadline.runs


def test_where_nothing_can_be_recorded_the_node_ends_and_nothing_goes(
    connection: FlowerConnection,
    coordinator: Coordinator,
    tmp_path: Path,
    policy: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full(*_: Any) -> int:
        raise OSError(28, "No space left on device")

    connection.receive()
    withdraw(policy)
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(Ended, match=r"cannot be written \(No space left on device\)"):
        connection.receive()
    assert coordinator.sent == []
    assert (tmp_path / "audit.jsonl").read_bytes() == b"", "no half of a line stays"
