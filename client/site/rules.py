"""The rules by which a message leaves: exactly what its kind is made of, within the policy.

`judge` returns what is to be sent, rebuilt from the values that were checked. Nothing of the app's
own bytes is passed on but the numbers of the adapter: no order of keys, no spelling of a number, no
unused field can carry anything.

What no rule can see is what the adapter's numbers mean. They are bounded in count and in size, and
their names and shapes are those of the run; but an app that wants to hide data in them can. Against
that stands the approval of the app bundle, and a privacy guarantee where one is required.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from client.site.inventory import ArrayItem, Inventory
from client.site.join_rules import check_join
from client.site.policy import Policy
from client.site.question import Question, RoundName
from client.site.refused import RefusedError
from client.site.report_rules import check_report
from client.site.site_facts import Site
from common.adapter import MAX_NAME_LENGTH, shown
from common.errors import AdapterError
from common.wire import ARRAY_DTYPE, ARRAY_KEY, ARRAY_STYPE, inspect
from common.wire_header import DTYPES, LENGTH_BYTES, METADATA, SCALE, Header, read_header

_TYPE_CODES = {dtype: code for code, dtype in DTYPES.items()}


@dataclass(frozen=True)
class Release:
    """What is to be sent, and what the audit log says of it.

    Attributes:
        configs: config records by name.
        report: the numbers of a round, rounded; None where there is no report.
        adapter: the adapter's bytes; None without one.
        tensors: name, type and shape of each tensor on the wire.
        norm: Euclidean norm of the adapter's numbers.
        rank: of the adapter.
    """

    configs: Mapping[str, Mapping[str, Any]]
    report: Mapping[str, int | float] | None = None
    adapter: bytes | None = None
    tensors: tuple[tuple[str, str, tuple[int, ...]], ...] = ()
    norm: float = 0.0
    rank: int = 0

    @property
    def epsilon(self) -> float | None:
        """The epsilon that the report states."""
        return (self.report or {}).get("privacy.epsilon")


@dataclass(frozen=True)
class _Expected:
    """The names that a message of one kind has, by kind of record."""

    arrays: frozenset[str] = field(default_factory=frozenset)
    metrics: frozenset[str] = field(default_factory=frozenset)
    configs: frozenset[str] = field(default_factory=frozenset)


def judge(site: Site, question: Question, found: Inventory, policy: Policy) -> Release:
    """Return what may be sent of an answer.

    Args:
        site: the site itself.
        question: what the server asked.
        found: all that the answer holds.
        policy: what may leave.

    Raises:
        RefusedError: where anything is more, less or other than it may be.
    """
    if question.kind == "query":
        own = f"site.{site.name}"
        _expect(found, _Expected(configs=frozenset({own, "node"})))
        return Release(check_join(site, question, found.configs, policy))
    if question.kind not in ("train", "evaluate"):
        raise RefusedError("kind", f"nothing answers {shown(question.kind)}")
    training = question.kind == "train"
    due = frozenset({"adapter"} if training else ())
    _expect(found, _Expected(due, frozenset({"report"}), frozenset({"round"})))
    name = _check_round(site.name, question, found.configs["round"])
    report = check_report(site, question, found.metrics["report"], policy)
    configs = {"round": {"site": name.site, "round": name.number, "run": name.run}}
    if not training:
        return Release(configs, report)
    data = _check_array(found.arrays["adapter"], policy)
    return _judge_adapter(data, question, policy, configs, report)


def _expect(found: Inventory, due: _Expected) -> None:
    for kind in ("arrays", "metrics", "configs"):
        there, wanted = set(getattr(found, kind)), getattr(due, kind)
        if extra := sorted(there - wanted):
            raise RefusedError("record", f"{kind}: {shown(extra[0])} is not expected")
        if missing := sorted(wanted - there):
            raise RefusedError("record", f"{kind}: {missing[0]} is missing")


def _check_round(site: str, question: Question, said: Mapping[str, Any]) -> RoundName:
    asked = question.round
    if asked is None or asked.site != site:
        raise RefusedError("question", "the server's message does not ask this site for a round")
    if dict(said) != {"site": asked.site, "round": asked.number, "run": asked.run}:
        raise RefusedError("round", "the record round is not what the server asked for")
    return asked


def _check_array(record: Mapping[str, ArrayItem], policy: Policy) -> bytes:
    if set(record) != {ARRAY_KEY}:
        raise RefusedError(
            "record", f"arrays in the adapter: {shown(sorted(record))}, expected one"
        )
    array = record[ARRAY_KEY]
    if len(array.data) > policy.max_bytes:
        raise RefusedError("size", f"{len(array.data)} bytes, the policy allows {policy.max_bytes}")
    said = (array.stype, array.dtype, array.shape)
    if said != (ARRAY_STYPE, ARRAY_DTYPE, (len(array.data),)):
        raise RefusedError("adapter", f"the array calls itself {shown(said)}, which no adapter is")
    return array.data


def _judge_adapter(
    data: bytes,
    question: Question,
    policy: Policy,
    configs: Mapping[str, Mapping[str, Any]],
    report: Mapping[str, int | float],
) -> Release:
    try:
        header = read_header(data, policy.max_bytes)
        summary = inspect(data, max_bytes=policy.max_bytes)
    except AdapterError as error:
        raise RefusedError("adapter", str(error)) from None
    if data[: header.start] != _canonical(header):
        raise RefusedError("adapter", "its header is not written as this release writes it")
    _check_like_received(header, question.adapter)
    for name in summary.matrices:
        if len(name) > MAX_NAME_LENGTH or not policy.tensor_name.fullmatch(name):
            raise RefusedError("tensor", f"{shown(name)} does not match the policy's tensor names")
    if summary.rank > policy.max_rank:
        raise RefusedError("rank", f"rank {summary.rank}, the policy allows {policy.max_rank}")
    norm = summary.norm
    if not math.isfinite(norm) or norm > policy.max_norm:
        raise RefusedError("norm", f"norm {norm:g}, the policy allows {policy.max_norm:g}")
    tensors = tuple((name, t.dtype.name, t.shape) for name, t in header.tensors.items())
    return Release(configs, report, data, tensors, norm, summary.rank)


def _check_like_received(header: Header, received: Header | None) -> None:
    """The same layers, settings and shapes as the adapter that the server sent."""
    if received is None:
        raise RefusedError("question", "the server's message brings no adapter")
    if header.metadata != received.metadata:
        raise RefusedError("adapter", "its layers and settings are not those of the one received")
    if _shapes(header) != _shapes(received):
        raise RefusedError("adapter", "its shapes are not those of the one received")


def _shapes(header: Header) -> dict[str, tuple[int, int, int]]:
    # The scales of int8 follow from the matrices; the way down may have another type of number.
    return {name: t.shape for name, t in header.tensors.items() if not name.endswith(SCALE)}


def _canonical(header: Header) -> bytes:
    """The one way to write a header; anything else could say something between the lines."""
    entries: dict[str, Any] = {METADATA: dict(sorted(header.metadata.items()))}
    for name, tensor in sorted(header.tensors.items(), key=lambda item: item[1].begin):
        entries[name] = {
            "dtype": _TYPE_CODES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [tensor.begin, tensor.end],
        }
    text = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(LENGTH_BYTES, "little") + text
