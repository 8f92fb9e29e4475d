"""The rules by which a message leaves: exactly what its kind is made of, within the policy.

`judge` returns what is to be sent, rebuilt from the values that were checked. Nothing of the app's
own bytes is passed on but the numbers of the adapter: no order of keys, no spelling of a number, no
unused field can carry anything.

The adapter has rules of its own, in `client.egress.adapter_rules`. What none can see is what its
numbers mean. They are bounded in count and in size, and their names and shapes are those of the
run; but an app that wants to hide data in them can. Against that stands the approval of the app
bundle, and a privacy guarantee where one is required.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from client.config.site_facts import Site
from client.egress.adapter_rules import judge_adapter
from client.egress.join_rules import check_join
from client.egress.message_parser import Inventory
from client.egress.report_rules import check_report
from client.egress.server_request import Question, RoundName
from client.policy.policy import Policy
from client.policy.refusal import RefusedError
from common.adapter.adapter import shown


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
    dtype = None if question.config is None else question.config.wire.dtype
    sent = judge_adapter(found.arrays["adapter"], question.adapter, dtype, policy)
    return Release(configs, report, sent.data, sent.tensors, sent.norm, sent.rank)


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
