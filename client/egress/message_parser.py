"""Parser of a serialised, untrusted Flower message.

The node stores a message as a tree of objects, each identified by the SHA-256 of its bytes::

    Message ─ RecordDict ─┬─ ArrayRecord ─ Array ─ ArrayChunk …
                          ├─ MetricRecord
                          └─ ConfigRecord

`parse_message` reads them into plain values. It checks sizes before it allocates, visits each
object once, and refuses an object that no other refers to. It does not check the values.
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
"""An honest reply has about ten: one array of a few chunks, a report, its round."""
MAX_OBJECT_BYTES = 64 * 2**10
"""Size limit of every object except a chunk of an array."""
MAX_KEYS = 64
_ARRAY_FIELDS = {"dtype", "shape", "stype", "arraychunk_ids"}

ReadObject = Callable[[str], bytes]
"""Returns the bytes of an object by its id."""


@dataclass(frozen=True)
class ParsedArray:
    """An array: its declared type, shape and serialisation, and its bytes."""

    dtype: str
    shape: tuple[int, ...]
    stype: str
    data: bytes


@dataclass(frozen=True)
class ParsedMessage:
    """Content of a message, as plain values.

    Attributes:
        has_error: whether it is an error reply; then the rest is empty.
        arrays: arrays by record and key.
        metrics: metric records by name.
        configs: config records by name.
        size: total bytes of all objects.
    """

    has_error: bool = False
    arrays: Mapping[str, Mapping[str, ParsedArray]] = field(default_factory=dict)
    metrics: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    configs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    size: int = 0


@dataclass(frozen=True)
class _Object:
    kind: str
    children: tuple[str, ...]
    body: bytes
    whole: bytes


def parse_message(tree: ObjectTree, read: ReadObject, max_bytes: int) -> ParsedMessage:
    """Parse a message.

    Args:
        tree: the message's tree of object ids.
        read: returns an object's bytes.
        max_bytes: refuse longer messages.

    Raises:
        RefusedError: if it is too large, damaged or malformed.
    """
    objects = _collect(tree, read, max_bytes)
    _check_tree(tree, objects)
    return _Reader(objects, max_bytes).message(tree.object_id)


def _collect(tree: ObjectTree, read: ReadObject, max_bytes: int) -> dict[str, _Object]:
    """Return the objects by id, each read once; sizes are checked before anything is parsed."""
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
            raise RefusedError("damaged", "an object whose id is not its SHA-256")
        contents[node.object_id] = content
        waiting.extend(node.children)
    return {name: _split(content) for name, content in contents.items()}


def _check_tree(tree: ObjectTree, objects: Mapping[str, _Object]) -> None:
    """Refuse a tree that differs from the one in the objects' own heads.

    Flower stores the tree as sent and expands it for each reader. A tree that names a child twice
    on each of sixty levels is short on the wire and does not fit any memory when expanded.
    """
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        found = objects.get(node.object_id)
        children = sorted(child.object_id for child in node.children)
        if found is None or children != sorted(found.children):
            raise RefusedError("damaged", "the tree differs from the message's objects")
        waiting.extend(node.children)


def _split(content: bytes) -> _Object:
    """Split an object into kind, children and body; Flower writes a head and a NUL byte first."""
    head, divider, body = content.partition(HEAD_BODY_DIVIDER)
    parts = head.decode("ascii", "replace").split(HEAD_VALUE_DIVIDER)
    if not divider or len(parts) != 3 or parts[2] != str(len(body)):
        raise RefusedError("damaged", "an object without a valid head")
    children = tuple(parts[1].split(",")) if parts[1] else ()
    if len(set(children)) != len(children):
        raise RefusedError("damaged", "an object that names a child twice")
    if parts[0] != "ArrayChunk" and len(content) > MAX_OBJECT_BYTES:
        raise RefusedError("size", f"an object {shown(parts[0])} of {len(content)} bytes")
    return _Object(parts[0], children, body, content)


class _Reader:
    """Follows the references between objects and records which were visited."""

    def __init__(self, objects: Mapping[str, _Object], max_bytes: int) -> None:
        self._objects = objects
        self._room = max_bytes
        self._visited: set[str] = set()

    def message(self, root: str) -> ParsedMessage:
        message = self._get(root, "Message")
        proto = ProtoMessage.FromString(message.body)
        if proto.HasField("error"):
            return ParsedMessage(has_error=True)
        if len(message.children) != 1 or proto.HasField("content"):
            raise RefusedError("damaged", "a message without exactly one content record")
        found = self._records(self._get(message.children[0], "RecordDict"))
        if self._visited != self._objects.keys():
            raise RefusedError(
                "objects", f"{len(self._objects) - len(self._visited)} objects in no record"
            )
        return found

    def _records(self, content: _Object) -> ParsedMessage:
        arrays: dict[str, dict[str, ParsedArray]] = {}
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
        return ParsedMessage(False, arrays, metrics, configs, size)

    def _references(self, container: _Object) -> dict[str, str]:
        """Return a record's names with their object ids: exactly the ids in its head."""
        given = json.loads(container.body, object_pairs_hook=_without_duplicates)
        if (
            not isinstance(given, dict)
            or len(given) > MAX_KEYS
            or not all(isinstance(value, str) for value in given.values())
            or set(given.values()) != set(container.children)
        ):
            raise RefusedError("damaged", f"{container.kind} does not name its children")
        return given

    def _array(self, array: _Object) -> ParsedArray:
        fields = json.loads(array.body, object_pairs_hook=_without_duplicates)
        if not isinstance(fields, dict) or fields.keys() != _ARRAY_FIELDS:
            raise RefusedError("damaged", "an array with missing or unknown fields")
        order, shape = fields["arraychunk_ids"], fields["shape"]
        if not _whole(order, len(array.children) - 1) or not _whole(shape, 2**62):
            raise RefusedError("damaged", "an array whose chunks or shape are not whole numbers")
        chunks = [self._get(child, "ArrayChunk") for child in array.children]
        # Equal chunks are stored once and listed twice, so the joined size must be checked too.
        if len(order) > MAX_OBJECTS or set(order) != set(range(len(chunks))):
            raise RefusedError("damaged", "an array that does not use each of its chunks")
        self._room -= sum(len(chunks[index].body) for index in order)
        if self._room < 0:
            raise RefusedError("size", "arrays that are longer together than a message may be")
        data = b"".join(chunks[index].body for index in order)
        return ParsedArray(str(fields["dtype"]), tuple(shape), str(fields["stype"]), data)

    def _get(self, name: str, *kinds: str) -> _Object:
        found = self._objects.get(name)
        if found is None or found.kind not in kinds:
            kind = "nothing" if found is None else found.kind
            raise RefusedError("damaged", f"{shown(kind)} where {' or '.join(kinds)} is expected")
        if found.kind in ("ArrayChunk", "MetricRecord", "ConfigRecord") and found.children:
            raise RefusedError("damaged", f"{found.kind} with children")
        self._visited.add(name)
        return found


def _without_duplicates(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        raise RefusedError("damaged", "a name that occurs twice")
    return values


def _whole(values: object, most: int) -> bool:
    return isinstance(values, list) and all(type(v) is int and 0 <= v <= most for v in values)
