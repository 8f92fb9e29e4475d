"""A serialised Flower message, taken apart by hand: every object of it, and nothing trusted.

A message lies in the node as a tree of objects, each named by the SHA-256 of its bytes::

    Message ─ RecordDict ─┬─ ArrayRecord ─ Array ─ ArrayChunk …
                          ├─ MetricRecord
                          └─ ConfigRecord

`take_inventory` reads them into plain values. It checks sizes before it allocates, visits each
object once, and refuses an object that no other refers to. What the values mean is the gate's part.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from flwr.app import ConfigRecord, MetricRecord
from flwr.proto.message_pb2 import Message as ProtoMessage
from flwr.proto.message_pb2 import ObjectTree
from flwr.supercore.constant import HEAD_BODY_DIVIDER, HEAD_VALUE_DIVIDER

from client.policy.refusal import RefusedError
from common.adapter.adapter import shown

MAX_OBJECTS = 64
"""An honest reply has about ten: one array of a few pieces, a report, its round."""
MAX_OBJECT_BYTES = 64 * 2**10
"""Of every object but a piece of an array."""
MAX_KEYS = 64

Read = Callable[[str], bytes]
"""Gives the bytes of an object by its id."""


@dataclass(frozen=True)
class ArrayItem:
    """One array: what it says of itself, and its bytes."""

    dtype: str
    shape: tuple[int, ...]
    stype: str
    data: bytes


@dataclass(frozen=True)
class Inventory:
    """All that a message holds.

    Attributes:
        has_error: whether it is an error reply; then there is nothing else.
        arrays: arrays by record and key.
        metrics: metric records by name.
        configs: config records by name.
        size: bytes of all objects together.
    """

    has_error: bool = False
    arrays: Mapping[str, Mapping[str, ArrayItem]] = field(default_factory=dict)
    metrics: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    configs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    size: int = 0


@dataclass(frozen=True)
class _Object:
    kind: str
    children: tuple[str, ...]
    body: bytes
    whole: bytes


def take_inventory(tree: ObjectTree, read: Read, max_bytes: int) -> Inventory:
    """Read a message.

    Args:
        tree: the message's tree of object ids.
        read: gives each object's bytes.
        max_bytes: refuse longer messages.

    Raises:
        RefusedError: it is too large, damaged, or not built as a message is.
    """
    objects = _collect(tree, read, max_bytes)
    _check_tree(tree, objects)
    return _Reader(objects, max_bytes).message(tree.object_id)


def _collect(tree: ObjectTree, read: Read, max_bytes: int) -> dict[str, _Object]:
    """The objects by id, each read once; sizes are checked before anything is looked into."""
    contents: dict[str, bytes] = {}
    waiting = [tree]
    size = 0
    while waiting:
        node = waiting.pop()
        if node.object_id in contents:
            continue
        if len(contents) == MAX_OBJECTS:
            raise RefusedError("objects", f"more than {MAX_OBJECTS} objects in one message")
        content = read(node.object_id)
        size += len(content)
        if size > max_bytes:
            raise RefusedError("size", f"a message of more than {max_bytes} bytes")
        if hashlib.sha256(content).hexdigest() != node.object_id:
            raise RefusedError("damaged", "an object under another id than its own")
        contents[node.object_id] = content
        waiting.extend(node.children)
    return {name: _split(content) for name, content in contents.items()}


def _check_tree(tree: ObjectTree, objects: Mapping[str, _Object]) -> None:
    """Refuse a tree that is not the one which the objects themselves name.

    Flower stores a tree as it is told and builds it anew for each reader. One that names a child
    twice on each of sixty levels is short on the wire and has no end when it is built.
    """
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        found = objects.get(node.object_id)
        told = sorted(child.object_id for child in node.children)
        if found is None or told != sorted(found.children):
            raise RefusedError("damaged", "a tree that is not that of the message")
        waiting.extend(node.children)


def _split(content: bytes) -> _Object:
    """Type, children and body of an object, as Flower writes them before a NUL byte."""
    head, divider, body = content.partition(HEAD_BODY_DIVIDER)
    parts = head.decode("ascii", "replace").split(HEAD_VALUE_DIVIDER)
    if not divider or len(parts) != 3 or parts[2] != str(len(body)):
        raise RefusedError("damaged", "an object without a proper head")
    children = tuple(parts[1].split(",")) if parts[1] else ()
    if len(set(children)) != len(children):
        raise RefusedError("damaged", "an object that names a child twice")
    if parts[0] != "ArrayChunk" and len(content) > MAX_OBJECT_BYTES:
        raise RefusedError("size", f"an object {shown(parts[0])} of {len(content)} bytes")
    return _Object(parts[0], children, body, content)


class _Reader:
    """Follows the references between objects and notes which were met."""

    def __init__(self, objects: Mapping[str, _Object], max_bytes: int) -> None:
        self._objects = objects
        self._room = max_bytes
        self._met: set[str] = set()

    def message(self, root: str) -> Inventory:
        message = self._get(root, "Message")
        proto = ProtoMessage.FromString(message.body)
        if proto.HasField("error"):
            return Inventory(has_error=True)
        if len(message.children) != 1 or proto.HasField("content"):
            raise RefusedError("damaged", "a message without exactly one content")
        found = self._records(self._get(message.children[0], "RecordDict"))
        if self._met != self._objects.keys():
            raise RefusedError(
                "objects", f"{len(self._objects) - len(self._met)} objects in no record"
            )
        return found

    def _records(self, content: _Object) -> Inventory:
        arrays: dict[str, dict[str, ArrayItem]] = {}
        metrics: dict[str, Mapping[str, Any]] = {}
        configs: dict[str, Mapping[str, Any]] = {}
        for name, reference in self._references(content).items():
            record = self._get(reference, "ArrayRecord", "MetricRecord", "ConfigRecord")
            if record.kind == "ArrayRecord":
                arrays[name] = {
                    key: self._array(self._get(one, "Array"))
                    for key, one in self._references(record).items()
                }
            elif record.kind == "MetricRecord":
                metrics[name] = dict(MetricRecord.inflate(record.whole))
            else:
                configs[name] = dict(ConfigRecord.inflate(record.whole))
        size = sum(len(one.whole) for one in self._objects.values())
        return Inventory(False, arrays, metrics, configs, size)

    def _references(self, container: _Object) -> dict[str, str]:
        """A record's names with the ids they stand for: the ids in its head, and no others."""
        given = json.loads(container.body, object_pairs_hook=_without_duplicates)
        if (
            not isinstance(given, dict)
            or len(given) > MAX_KEYS
            or not all(isinstance(value, str) for value in given.values())
            or set(given.values()) != set(container.children)
        ):
            raise RefusedError("damaged", f"{container.kind} does not name its children")
        return given

    def _array(self, array: _Object) -> ArrayItem:
        said = json.loads(array.body, object_pairs_hook=_without_duplicates)
        if not isinstance(said, dict) or set(said) != {"dtype", "shape", "stype", "arraychunk_ids"}:
            raise RefusedError("damaged", "an array that does not describe itself")
        order, shape = said["arraychunk_ids"], said["shape"]
        if not _whole(order, len(array.children) - 1) or not _whole(shape, 2**62):
            raise RefusedError("damaged", "an array whose pieces or shape are not whole numbers")
        pieces = [self._get(child, "ArrayChunk") for child in array.children]
        # Equal pieces are stored once and listed twice: what they add up to is not what was stored.
        if len(order) > MAX_OBJECTS or set(order) != set(range(len(pieces))):
            raise RefusedError("damaged", "an array that does not use each of its pieces")
        self._room -= sum(len(pieces[index].body) for index in order)
        if self._room < 0:
            raise RefusedError("size", "arrays that are longer together than a message may be")
        data = b"".join(pieces[index].body for index in order)
        return ArrayItem(str(said["dtype"]), tuple(shape), str(said["stype"]), data)

    def _get(self, name: str, *kinds: str) -> _Object:
        found = self._objects.get(name)
        if found is None or found.kind not in kinds:
            kind = "nothing" if found is None else found.kind
            raise RefusedError("damaged", f"{shown(kind)} where {' or '.join(kinds)} is due")
        if found.kind in ("ArrayChunk", "MetricRecord", "ConfigRecord") and found.children:
            raise RefusedError("damaged", f"{found.kind} with children")
        self._met.add(name)
        return found


def _without_duplicates(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        raise RefusedError("damaged", "a name that stands there twice")
    return values


def _whole(values: object, most: int) -> bool:
    return isinstance(values, list) and all(type(v) is int and 0 <= v <= most for v in values)
