"""A deployment as the server sees it, without processes: nodes with registered keys."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from flwr.app import ConfigRecord, Error, Message, RecordDict
from flwr.proto.node_pb2 import NodeInfo
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

from simulation.engines.inprocess import InProcessGrid

DIGEST = "0" * 64
ANSWER: dict[str, Any] = {
    "patients": 12,
    "windows": 100,
    "source": "mimic3",
    "rule": "sepsis=explicit",
    "step-minutes": 60,
    "backbone-digest": DIGEST,
    "usable": True,
    "rank": 8,
}
Said = Callable[[Message], Message]


def says(records: Mapping[str, Mapping[str, Any]], *, source: int = 0) -> Said:
    """Return a node's answer of some records, in its own name or as another node."""

    def answer(question: Message) -> Message:
        content = RecordDict({name: ConfigRecord(dict(said)) for name, said in records.items()})
        reply = Message(content, reply_to=question)
        if source:
            reply.metadata.__dict__["_src_node_id"] = source
        return reply

    return answer


def joins_as(name: str, **change: Any) -> Said:
    """Return the answer of an honest node of one site."""
    return says({f"site.{name}": {**ANSWER, **change}, "node": {"nodes": 0}})


def fails(reason: str) -> Said:
    """Return an error instead of an answer."""
    return lambda question: Message(Error(code=7, reason=reason), reply_to=question)


@dataclass
class Node:
    """A node that is there.

    Attributes:
        registered: the name under which the coordinator registered its key; empty = none.
        said: what it answers.
        after: how many looks at the nodes it stays away for.
    """

    registered: str
    said: Said
    after: int = 0


@dataclass
class HospitalGrid(InProcessGrid):
    """Flower's Grid over such nodes, by their ids."""

    nodes: dict[int, Node]
    looks: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self._waiting = {}
        self._on_message = None
        self._run = Run.create_empty(1)  # a ServerApp's: no simulation
        TaskIdentity.task_id = TaskIdentity.run_id = TaskIdentity.node_id = 1

    def get_nodes(self) -> Iterable[NodeInfo]:
        self.looks += 1
        return [
            NodeInfo(node_id=number, name=node.registered, public_key=b"key %d" % number)
            for number, node in self.nodes.items()
            if node.after < self.looks
        ]

    def get_node_ids(self) -> Iterable[int]:
        return [node.node_id for node in self.get_nodes()]

    def _deliver(self, message: Message) -> Message:
        TaskIdentity.node_id = message.metadata.dst_node_id
        return self.nodes[message.metadata.dst_node_id].said(message)
