"""Parsed server request that replies are checked against.

A reply names its site, round and run, and its adapter carries the names and settings of the one
that was received. The gate takes all of these from the request, never from the reply: the app's
values must be equal, and the request's are sent.
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

from client.egress.message_parser import ParsedArray, ParsedMessage, ReadObject, parse_message
from client.policy.refusal import RefusedError
from client.policy.submitted_run import SubmittedRun
from common.adapter.adapter import shown
from common.adapter.serialization.header import Header
from common.adapter.serialization.message import (
    ARRAY_DTYPE,
    ARRAY_KEY,
    ARRAY_STYPE,
    check_message,
)
from common.config.run_config import RunConfig
from common.errors import AdapterError

MAX_REQUEST_BYTES = 2**30
"""Larger than a reply's limit: the server may send more than a site does."""

_RUN = re.compile(r"[0-9a-f]{1,64}")
_LAST_ROUND = 10**6
_ADAPTER, _RESIDUAL = "adapter", "carried"
_ROUND = {"round"}
_ROUND_KEYS = {"site", "round", "run"}


@dataclass(frozen=True)
class RoundId:
    """Identity of a round: the site, the round's number, and the server's random id of the run."""

    site: str
    number: int
    run: str


@dataclass(frozen=True)
class ServerRequest:
    """A parsed message of the server.

    Attributes:
        message: the message; a reply's metadata are derived from its own.
        kind: ``train``, ``evaluate``, ``query``, or an unknown kind.
        run: the run that it belongs to.
        round: the requested round; None if the message names none in a valid form.
        adapter: header of the adapter in the message; None without one.
        adapter_sha256: SHA-256 of that adapter's bytes; empty without one.
        problem: why the message is malformed; empty if it is not.
        empty: whether the message has no record at all.
    """

    message: Message
    kind: str
    run: SubmittedRun
    round: RoundId | None = None
    adapter: Header | None = None
    adapter_sha256: str = ""
    problem: str = ""
    empty: bool = False

    @property
    def config(self) -> RunConfig | None:
        """The run's settings; None if they could not be read."""
        return None if self.run.settings is None else self.run.settings.config

    @property
    def private(self) -> bool:
        """True if the run has a privacy guarantee."""
        return self.config is not None and self.config.privacy.on


def parse_request(
    message: Message, tree: ObjectTree, read: ReadObject, run: SubmittedRun
) -> ServerRequest:
    """Parse a message of the server; raises nothing, `problem` says what is malformed.

    Args:
        message: the message without its content.
        tree: the object ids of its content.
        read: returns an object's bytes.
        run: the run that it belongs to.
    """
    kind = message.metadata.message_type
    try:
        _check_envelope(message, tree, read)
        parsed = parse_message(tree, read, MAX_REQUEST_BYTES)
        _check_records(parsed)
        headers = {name: _read_adapter(array) for name, array in parsed.arrays.items()}
    except RefusedError as refusal:
        return ServerRequest(message, kind, run, problem=refusal.detail)
    except Exception as problem:  # whatever is wrong, no reply can be checked against it
        name = type(problem).__name__
        return ServerRequest(message, kind, run, problem=f"the request cannot be read: {name}")
    round_id, header = _round_id(parsed.configs.get("round", {})), headers.get(_ADAPTER)
    if header is None:
        empty = not (parsed.has_error or parsed.arrays or parsed.metrics or parsed.configs)
        return ServerRequest(message, kind, run, round_id, empty=empty)
    sha256 = hashlib.sha256(parsed.arrays[_ADAPTER][ARRAY_KEY].data).hexdigest()
    return ServerRequest(message, kind, run, round_id, header, sha256)


def _check_records(parsed: ParsedMessage) -> None:
    """Check that a request has no other record than this release's: an app could act on it."""
    for kind, known in (("arrays", {_ADAPTER, _RESIDUAL}), ("metrics", set()), ("configs", _ROUND)):
        if extra := sorted(getattr(parsed, kind).keys() - known):
            raise RefusedError("question", f"{kind}: {shown(extra[0])} is in no request")
    if extra := sorted(parsed.configs.get("round", {}).keys() - _ROUND_KEYS):
        raise RefusedError("question", f"the record round has {shown(extra[0])}")


def _read_adapter(record: Mapping[str, ParsedArray]) -> Header:
    """Return the header of an adapter or a residual, as the app would accept it.

    What the app refuses here would have been charged to the budget already.
    """
    if set(record) != {ARRAY_KEY}:
        raise RefusedError("question", f"arrays {shown(sorted(record))}, expected one")
    array = record[ARRAY_KEY]
    declared = (array.stype, array.dtype, array.shape)
    if declared != (ARRAY_STYPE, ARRAY_DTYPE, (len(array.data),)):
        raise RefusedError("question", f"the array declares {shown(declared)}; no adapter does")
    try:
        return check_message(array.data)
    except AdapterError as problem:
        raise RefusedError("question", str(problem)) from None


def _check_envelope(message: Message, tree: ObjectTree, read: ReadObject) -> None:
    """Check that a message's envelope agrees with the metadata inside the message.

    The gate judges by the envelope; the app unpacks the message and acts on what is inside.
    Flower's loop would take a message with `reply_to_message_id` for the app's reply.
    """
    metadata = message.metadata
    if metadata.reply_to_message_id:
        raise RefusedError("question", "the server's message is marked as a reply")
    if metadata.message_id != tree.object_id:
        raise RefusedError("question", "the request's id differs from its content's id")
    _, _, body = read(tree.object_id).partition(HEAD_BODY_DIVIDER)
    own = ProtoMessage.FromString(body).metadata
    if (own.message_type, own.reply_to_message_id) != (metadata.message_type, ""):
        raise RefusedError("question", "the request's kind differs from its content's kind")


def _round_id(record: Mapping[str, object]) -> RoundId | None:
    site, number, run = record.get("site"), record.get("round"), record.get("run")
    if not isinstance(site, str) or not isinstance(run, str) or not _RUN.fullmatch(run):
        return None
    if type(number) is not int or not 0 <= number <= _LAST_ROUND:
        return None
    return RoundId(site, number, run)
