"""Parsed server request that replies are checked against.

An answer names its site, round and run, and its adapter carries the names and settings of the one
that was received. The gate takes all of that from the question, never from the answer: what the app
says there has to be equal, and what is sent is the question's.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass

from flwr.app import Message
from flwr.proto.message_pb2 import Message as ProtoMessage
from flwr.proto.message_pb2 import ObjectTree
from flwr.supercore.constant import HEAD_BODY_DIVIDER

from client.egress.message_parser import Read, take_inventory
from client.policy.refusal import RefusedError
from client.policy.submitted_run import RunFacts
from common.adapter.serialization.header import Header, read_header
from common.config.run_config import RunConfig

MAX_BYTES = 2**30
"""Of a question: the server may send more than a site does."""

_RUN = re.compile(r"[0-9a-f]{1,64}")
_LAST_ROUND = 10**6


@dataclass(frozen=True)
class RoundName:
    """Which answer it is: the run, a random number of the server's; the round; the site."""

    site: str
    number: int
    run: str


@dataclass(frozen=True)
class Question:
    """A message of the server.

    Attributes:
        message: the message, whose metadata an answer's are made from.
        kind: ``train``, ``evaluate``, ``query``, or another that nothing answers.
        facts: the run that it belongs to.
        round: which round it asks for; None where it does not say so properly.
        adapter: the header of the adapter that it brings; None without one.
        received: SHA-256 of that adapter's bytes; empty without one.
        problem: why it is no message that a node takes in; empty where it is one.
    """

    message: Message
    kind: str
    facts: RunFacts
    round: RoundName | None = None
    adapter: Header | None = None
    received: str = ""
    problem: str = ""

    @property
    def config(self) -> RunConfig | None:
        """The run's settings; None where they cannot be read."""
        return None if self.facts.settings is None else self.facts.settings.config

    @property
    def private(self) -> bool:
        """Whether the run promises a privacy guarantee."""
        return self.config is not None and self.config.privacy.on


def read_question(message: Message, tree: ObjectTree, read: Read, facts: RunFacts) -> Question:
    """Read a message of the server; `problem` says what is not as it should be.

    Args:
        message: as it came, without its content.
        tree: the ids of its content.
        read: gives the content's bytes.
        facts: the run that it belongs to.
    """
    kind = message.metadata.message_type
    try:
        _check_envelope(message, tree, read)
        found = take_inventory(tree, read, MAX_BYTES)
        order = found.configs.get("round", {})
        array = found.arrays.get("adapter", {}).get("adapter")
        header = None if array is None else read_header(array.data, MAX_BYTES)
    except RefusedError as refusal:
        return Question(message, kind, facts, problem=refusal.detail)
    except Exception as problem:  # whatever is wrong, an answer cannot be checked against it
        name = type(problem).__name__
        return Question(message, kind, facts, problem=f"the message cannot be read: {name}")
    received = "" if array is None else hashlib.sha256(array.data).hexdigest()
    return Question(message, kind, facts, _round_name(order), header, received)


def _check_envelope(message: Message, tree: ObjectTree, read: Read) -> None:
    """Hold what a message is sent under against what it says of itself.

    The gate goes by the one, and the app, which unpacks the message, by the other. A message that
    names another as its question would be taken for the app's answer by Flower's loop.
    """
    metadata = message.metadata
    if metadata.reply_to_message_id:
        raise RefusedError("question", "the server's message calls itself an answer")
    if metadata.message_id != tree.object_id:
        raise RefusedError("question", "the server's message is sent under another id than its own")
    _, _, body = read(tree.object_id).partition(HEAD_BODY_DIVIDER)
    own = ProtoMessage.FromString(body).metadata
    if (own.message_type, own.reply_to_message_id) != (metadata.message_type, ""):
        raise RefusedError("question", "the server's message is of another kind than it is sent as")


def _round_name(order: Mapping[str, object]) -> RoundName | None:
    site, number, run = order.get("site"), order.get("round"), order.get("run")
    if not isinstance(site, str) or not isinstance(run, str) or not _RUN.fullmatch(run):
        return None
    if type(number) is not int or not 0 <= number <= _LAST_ROUND:
        return None
    return RoundName(site, number, run)
