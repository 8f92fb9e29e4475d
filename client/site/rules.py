"""The rules by which a message leaves: exactly what its kind is made of, within the policy.

`judge` returns what is to be sent, rebuilt from the values that were checked. Nothing of the app's
own bytes is passed on but the numbers of the adapter: no order of keys, no spelling of a number, no
unused field can carry anything.

The adapter has rules of its own, in `client.site.adapter_rules`. What none can see is what its
numbers mean. They are bounded in count and in size, and their names and shapes are those of the
run; but an app that wants to hide data in them can. Against that stands the approval of the app
bundle, and a privacy guarantee where one is required.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from client.site.adapter_rules import judge_adapter
from client.site.inventory import Inventory
from client.site.policy import COUNT_FIELDS, TEXT_FIELDS, Policy
from client.site.question import Question, RoundName
from client.site.refused import RefusedError
from common.adapter import shown

MAX_NUMBER = 1e9
"""No count and no loss is as large."""
SIGNIFICANT = 6
"""Digits of a number that the policy lets out as it is: all 53 bits have room for a text."""
WHOLE = frozenset({"patients", "windows", "steps", "privacy.steps"})
"""Numbers of a round that are counts."""


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


@dataclass(frozen=True)
class Site:
    """The site itself, as it may name itself.

    Attributes:
        name: in the run.
        patients: in its training split, by the table or as the site states them.
        outside: the words for what it lets out beside a privacy guarantee.
    """

    name: str
    patients: int
    outside: str = ""


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
        return _judge_join(site, found, policy)
    if question.kind not in ("train", "evaluate"):
        raise RefusedError("kind", f"nothing answers {shown(question.kind)}")
    training = question.kind == "train"
    due = frozenset({"adapter"} if training else ())
    _expect(found, _Expected(due, frozenset({"report"}), frozenset({"round"})))
    name = _check_round(site.name, question, found.configs["round"])
    report = _check_report(site, found.metrics["report"], policy)
    configs = {"round": {"site": name.site, "round": name.number, "run": name.run}}
    if not training:
        return Release(configs, report)
    dtype = question.dtype or "float32"
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


def _check_report(site: Site, said: Mapping[str, Any], policy: Policy) -> dict[str, int | float]:
    report: dict[str, int | float] = {}
    for name, value in said.items():
        if name not in policy.metrics:
            raise RefusedError("metric", f"{shown(name)} is not among the policy's metrics")
        if name in WHOLE and type(value) is not int:
            raise RefusedError("number", f"{name} is {shown(value)}, not a count")
        report[name] = _rounded(_number(name, value), policy.metrics[name])
    _check_patients(site, said.get("patients"), policy)
    _check_privacy(said, policy)
    return report


def _check_patients(site: Site, said: object, policy: Policy) -> None:
    """By the site's own count, and by the app's, which need not tell any."""
    told = [said] if isinstance(said, int | float) else []
    patients = min([site.patients, *told])
    if patients < policy.min_patients:
        raise RefusedError(
            "patients", f"{patients:g} patients, the policy asks {policy.min_patients}"
        )


def _check_privacy(said: Mapping[str, Any], policy: Policy) -> None:
    for name, most in (("epsilon", policy.max_epsilon), ("delta", policy.max_delta)):
        value = said.get(f"privacy.{name}")
        if value is None:
            if policy.privacy_required:
                raise RefusedError("privacy", f"no {name} is stated, and a guarantee is required")
        elif not 0 <= value <= most:
            raise RefusedError("privacy", f"{name} is {value:g}, the policy allows {most:g}")


def _judge_join(site: Site, found: Inventory, policy: Policy) -> Release:
    own = f"site.{site.name}"
    _expect(found, _Expected(configs=frozenset({own, "node"})))
    if dict(found.configs["node"]) != {"nodes": 0}:
        raise RefusedError("config", "the record node is not that of a hospital")
    said: dict[str, Any] = {}
    for name, value in found.configs[own].items():
        if name not in policy.join:
            raise RefusedError("config", f"{shown(name)} is not among the policy's fields of join")
        said[name] = _checked_field(name, value, policy, site)
    _check_patients(site, found.configs[own].get("patients"), policy)
    return Release({own: said, "node": {"nodes": 0}})


def _checked_field(name: str, value: Any, policy: Policy, site: Site) -> int | float | str | bool:
    if name == "usable":
        if type(value) is not bool:
            raise RefusedError("config", "usable is neither true nor false")
        return value
    if name == "outside":
        if value not in ("", site.outside):
            raise RefusedError("config", f"outside is {shown(value)}, not the site's own words")
        return str(value)
    if name in TEXT_FIELDS:
        if not isinstance(value, str) or (value and value not in policy.texts):
            raise RefusedError("config", f"{name} is {shown(value)}, which is not among join.texts")
        return value
    number = _number(name, value)
    if type(number) is not int or number < 0:
        raise RefusedError("config", f"{name} is {number!r}, not a count")
    return _rounded(number, policy.join[name] if name in COUNT_FIELDS else None)


def _number(name: str, value: Any) -> int | float:
    if type(value) not in (int, float) or not abs(value) <= MAX_NUMBER:
        raise RefusedError("number", f"{shown(name)} is {shown(value)}, not a number up to 1e9")
    checked: int | float = value
    return checked


def _rounded(value: int | float, decimals: int | None) -> int | float:
    if decimals is not None:
        return round(value, decimals)
    return value if type(value) is int else float(f"{value:.{SIGNIFICANT}g}")
