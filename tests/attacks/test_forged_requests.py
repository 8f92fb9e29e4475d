"""Attacks by forged requests: another run, kind, id or tree than the message's own."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn

import pytest
from flwr.app import Array, ArrayRecord, Message, Metadata, RecordDict
from flwr.app.message import remove_content_from_message
from flwr.cli.config_utils import get_fab_metadata
from flwr.proto.message_pb2 import ObjectTree
from flwr.supercore.constant import HEAD_BODY_DIVIDER, HEAD_VALUE_DIVIDER
from flwr.supercore.fab import Fab
from flwr.supercore.object_store import ObjectStoreFactory
from flwr.supercore.run import Run
from flwr.supernode import start_client_internal as worker
from flwr.supernode.nodestate import NodeState, NodeStateFactory

from client.config.site_facts import SiteFacts
from client.egress.audit.audit_log import AuditLog
from client.egress.audit.hash_chain import read_entries
from client.egress.gate import Gate
from client.egress.message_parser import MAX_OBJECTS, parse_message
from client.egress.server_request import ServerRequest, parse_request
from client.node.gated_connection import FlowerConnection, GatedConnection
from client.node.reply_deadline import ReplyDeadline
from client.policy.app_bundle import read_bundle
from client.policy.approval_editor import Grant, approve_bundle
from client.policy.policy import PolicyFile
from client.policy.refusal import RefusedError
from client.policy.run_settings import RunSettings
from client.policy.submitted_run import SubmittedRun
from common.errors import AuditError
from tests.client.egress.gated_site import BUNDLE, GatedSite, Make, objects
from tests.integration.setup.deployed import WITHOUT_PRIVACY, replaced
from tests.samples.approvals import STUDY, UNTIL


class Node:
    """A site's node from its gate to Flower's state, with a coordinator that describes runs.

    Args:
        folder: for its files; with the shipped policy without privacy, whose joins the app answers.
        bundle: the app, approved.
    """

    def __init__(self, folder: Path, bundle: bytes) -> None:
        path = folder / "policy.toml"
        path.write_text(replaced("policy.toml", WITHOUT_PRIVACY))
        (folder / "app.fab").write_bytes(bundle)
        grant = Grant("A. Meyer", STUDY, UNTIL)
        approve_bundle(path, read_bundle(folder / "app.fab"), grant, datetime.now(UTC))
        self.log = folder / "audit.jsonl"
        self.runs: dict[int, Run] = {}
        self.pulled = 0
        self._bundle = bundle
        self._queue: list[tuple[Message, ObjectTree, dict[str, bytes]]] = []
        self._contents: dict[str, bytes] = {}
        objects = ObjectStoreFactory()
        self._store = objects.store()
        self.state: NodeState = NodeStateFactory(objectstore_factory=objects).state()
        self.state.set_node_id(2)
        gate = Gate(SiteFacts("micu", 100), PolicyFile(path).current, AuditLog(self.log))
        inner = FlowerConnection(
            *(2, self._receive, lambda *_: (set(), ""), self.runs.__getitem__),
            *(lambda digest, _run: Fab(digest, bundle, {}), self._pull),
            *(lambda *_: None, lambda *_: None),
        )
        gated = GatedConnection(inner, gate, self._store, ReplyDeadline(), _end)
        self._connection = gated.functions()

    def describe(self, asked: int, **other: Any) -> Run:
        """Let the coordinator describe a run, by its own number or by another."""
        run = Run.create_empty(other.pop("run_id", asked))
        run.fab_id, run.fab_version = get_fab_metadata(self._bundle)
        run.fab_hash = hashlib.sha256(self._bundle).hexdigest()
        run.series_id, run.override_config = other.pop("series_id", asked), other
        self.runs[asked] = run
        return run

    def take(self, message: Message, tree: ObjectTree | None = None) -> int | None:
        """Send a message; return its run where Flower has taken it."""
        own, contents = objects(message)
        self._queue.append((remove_content_from_message(message), tree or own, contents))
        return worker._pull_and_store_message(
            state=self.state,
            object_store=self._store,
            node_config={},
            receive=self._connection.receive,
            get_run=self._connection.get_run,
            get_fab=self._connection.get_fab,
            pull_object=self._connection.pull_object,
            confirm_message_received=self._connection.confirm_message_received,
            trusted_entities=None,
        )

    def handed(self, run_id: int) -> dict[str, Any]:
        """Return the settings that Flower gives an app for a run."""
        run = self.state.get_run(run_id)
        assert run is not None
        context = self.state.get_run_series_context(run.series_id)
        assert context is not None
        return dict(context.run_config)

    @property
    def last(self) -> dict[str, Any]:
        """The last line of the audit log."""
        return list(read_entries(self.log))[-1]

    def _receive(self) -> tuple[Message, ObjectTree]:
        message, tree, self._contents = self._queue.pop()
        return message, tree

    def _pull(self, _run: int, name: str) -> bytes:
        self.pulled += 1
        return self._contents.get(name, b"")


def _end(problem: AuditError) -> NoReturn:
    raise problem


@pytest.fixture
def node(tmp_path: Path, app_bundle: bytes) -> Node:
    return Node(tmp_path, app_bundle)


def join_request(run: int, content: RecordDict | None = None, **other: Any) -> Message:
    """Return a join request that an app answers."""
    said = {"reply_to_message_id": "", "message_type": "query", **other}
    metadata = Metadata(run, "", 1, 2, group_id="", created_at=1.0, ttl=60.0, **said)
    message: Message = Message(content=content or RecordDict(), metadata=metadata)  # type: ignore[call-overload]
    metadata.__dict__["_message_id"] = message.object_id
    return message


def test_runs_of_a_series_do_not_share_their_settings(node: Node) -> None:
    """A coordinator puts two runs into one series, and requests one with the other's settings.

    Before: Flower gave the app the settings of the latest run, which were not those that
    the gate had judged, charged and recorded.
    """
    node.describe(7, series_id=5, **{"windows.stride": 6})
    node.describe(8, series_id=5, **{"windows.stride": 24})
    assert node.take(join_request(7)) == 7
    assert node.take(join_request(8)) == 8
    assert node.handed(7)["windows.stride"] == 6
    assert node.handed(8)["windows.stride"] == 24


def test_a_run_is_not_described_under_another_s_number(node: Node) -> None:
    """A coordinator is asked for run 8, and describes run 7 anew.

    Before: Flower took the description over run 7's, whose settings the gate had judged.
    """
    node.describe(7, **{"windows.stride": 6})
    node.describe(8, run_id=7, **{"windows.stride": 24})
    assert node.take(join_request(7)) == 7
    assert node.take(join_request(8)) is None
    assert node.handed(7)["windows.stride"] == 6


def test_a_request_that_is_marked_as_a_reply_is_refused(node: Node) -> None:
    """A coordinator sends a message that answers itself.

    Before: Flower's loop took it for the app's answer, and the audit log had a line `sent` of what
    the coordinator had written.
    """
    node.describe(7)
    message = join_request(7)
    message.metadata.__dict__["_reply_to_message_id"] = message.metadata.message_id
    assert node.take(message) is None
    assert node.last["reason"] == "question"
    assert not node.state.get_messages_legacy(is_reply=True)


def test_ids_that_are_none_end_no_node(node: Node) -> None:
    """A coordinator gives an object an id that is no SHA-256.

    Before: Flower's store raised, which nothing caught, and the node ended.
    """
    node.describe(7)
    message = join_request(7)
    tree, _ = objects(message)
    tree.object_id = "x"
    message.metadata.__dict__["_message_id"] = "x"
    assert node.take(message, tree) is None
    assert node.last["reason"] == "question"


def test_a_tree_is_that_of_the_message(node: Node) -> None:
    """A coordinator's tree names each child twice, on fifty levels, with one branch written out.

    Before: Flower's store accepted it, and expanded 2^50 branches for the app, holding its lock.
    """
    node.describe(7)
    message = join_request(7)
    tree, _ = objects(message)
    tree.children.append(ObjectTree(object_id=tree.children[0].object_id))
    assert node.take(message, tree) is None
    assert node.last["detail"] == "the tree differs from the message's objects"


def test_a_tree_of_many_objects_is_not_fetched(node: Node) -> None:
    """A coordinator sends a tree of ten thousand objects of no bytes.

    Before: the node fetched each, which no limit of bytes bounds.
    """
    node.describe(7)
    message = join_request(7)
    tree, _ = objects(message)
    names = (hashlib.sha256(str(n).encode()).hexdigest() for n in range(10_000))
    tree.children.extend(ObjectTree(object_id=name) for name in names)
    assert node.take(message, tree) is None
    assert node.pulled <= MAX_OBJECTS + 1


def test_a_piece_that_is_named_often_is_not_joined() -> None:
    """A coordinator names one piece of an array 64 times.

    Before: 1 GiB, which a request may have, became 64 GiB in the node.
    """
    data = bytes(2**16)
    array = Array("uint8", (len(data),), "safetensors", data)
    content = RecordDict({"adapter": ArrayRecord({"adapter": array})})
    tree, contents = objects(join_request(7, content))
    tree = _changed(tree, contents, b"[0]", b"[" + b"0, " * 63 + b"0]")
    with pytest.raises(RefusedError, match="longer together"):
        parse_message(tree, contents.__getitem__, 2**21)


def _changed(tree: ObjectTree, contents: dict[str, bytes], old: bytes, new: bytes) -> ObjectTree:
    """Change a text in the objects of a tree, and with it the ids; return the tree that follows."""
    children = [_changed(child, contents, old, new) for child in tree.children]
    head, _, body = contents[tree.object_id].partition(HEAD_BODY_DIVIDER)
    for before, after in zip(tree.children, children, strict=True):
        ids = before.object_id.encode(), after.object_id.encode()
        head, body = head.replace(*ids), body.replace(*ids)
    body = body.replace(old, new)
    kind, names, _ = head.decode().split(HEAD_VALUE_DIVIDER)
    head = HEAD_VALUE_DIVIDER.join((kind, names, str(len(body)))).encode()
    content = head + HEAD_BODY_DIVIDER + body
    name = hashlib.sha256(content).hexdigest()
    contents[name] = content
    return ObjectTree(object_id=name, children=children)


def test_long_texts_do_not_fill_the_audit_log(node: Node) -> None:
    """A coordinator gives a setting a million characters, with each of its messages.

    Before: each message added a line of them to the audit log, which only grows.
    """
    for key in ("out", "federation.weights", "windows.vitals", "rounds"):
        node.describe(7, **{key: "x" * 1_000_000})
        node.take(join_request(7))
        assert node.last["decision"] == "refused"
    node.describe(9, **{"out": "x" * 10_000, "windows.stride": 1})
    assert node.take(join_request(9)) is None
    assert node.last["settings"]["changed"]["out"].endswith("x… (10000 characters)")
    assert node.log.stat().st_size < 10_000


def forged(site: GatedSite, message: Message, **metadata: str) -> ServerRequest:
    """Return a request as the node parses it, sent under other metadata than its own."""
    tree, contents = objects(message)
    for name, value in metadata.items():
        message.metadata.__dict__[f"_{name}"] = value
    facts = SubmittedRun(BUNDLE, RunSettings(site.config))
    return parse_request(message, tree, contents.__getitem__, facts)


@pytest.mark.parametrize(
    ("sent_as", "metadata"),
    [
        ("train", {"message_type": "evaluate"}),
        ("evaluate", {"message_type": "train"}),
        ("train", {"message_id": "ab" * 32}),
        ("train", {"reply_to_message_id": "ab" * 32}),
    ],
)
def test_a_message_is_of_the_kind_that_it_is_sent_as(
    make: Make, sent_as: str, metadata: dict[str, str]
) -> None:
    """A coordinator sends a request to train as one to evaluate, which costs no budget.

    Before: the gate judged the one, and the app did the other.
    """
    site = make()
    request = forged(site, site.ask(sent_as), **metadata)
    refusal = site.gate.admit(request)
    assert refusal is not None
    assert site.last["reason"] == "question"
    assert [entry["decision"] for entry in site.entries] == ["refused"]


@pytest.mark.parametrize("number", [0, 4, 1_000_000])
def test_a_run_trains_its_own_rounds_and_no_more(make: Make, number: int) -> None:
    """A coordinator asks for more rounds than the run has, each within the budget of all runs.

    Before: they were trained, beside an epsilon that was that of the run's own rounds.
    """
    site = make(rounds=3)
    assert site.admitted(site.ask("train", 3)) is None
    assert site.admitted(site.ask("train", number)) is not None
    assert site.last["reason"] == "question"
