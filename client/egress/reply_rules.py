"""Rules for the app's reply: it holds exactly the records of its kind, within the policy.

`check_reply` returns the values to send, rebuilt from those that were checked. Of the app's own
bytes only the adapter's numbers are passed on: the order of keys, the spelling of a number or an
unused field cannot carry anything.

No rule can see what the adapter's numbers mean (`client.egress.adapter_rules`). Their count, size,
names and shapes are bounded, but an app that wants to hide data in them can. What protects against
that is the approval of the app bundle, and a privacy guarantee where the policy requires one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from client.config.site_facts import SiteFacts
from client.egress.adapter_rules import check_adapter
from client.egress.join_rules import check_join
from client.egress.message_parser import ParsedMessage
from client.egress.report_rules import check_round_report
from client.egress.server_request import RoundId, ServerRequest
from client.policy.policy import Policy
from client.policy.refusal import RefusedError
from common.adapter.adapter import shown


@dataclass(frozen=True)
class CheckedReply:
    """Checked values of a reply: what is sent, and what the audit log records of it.

    Attributes:
        configs: config records by name.
        report: the round's numbers, rounded; None without a report.
        adapter: the adapter's bytes; None without one.
        tensors: name, type and shape of each tensor on the wire.
        norm: Euclidean norm of the adapter's numbers.
        rank: the adapter's rank.
    """

    configs: Mapping[str, Mapping[str, Any]]
    report: Mapping[str, int | float] | None = None
    adapter: bytes | None = None
    tensors: tuple[tuple[str, str, tuple[int, ...]], ...] = ()
    norm: float = 0.0
    rank: int = 0

    @property
    def epsilon(self) -> float | None:
        """The epsilon in the report; None without one."""
        return (self.report or {}).get("privacy.epsilon")


@dataclass(frozen=True)
class _ExpectedRecords:
    """Names of the records that a reply of one kind has."""

    arrays: frozenset[str] = field(default_factory=frozenset)
    metrics: frozenset[str] = field(default_factory=frozenset)
    configs: frozenset[str] = field(default_factory=frozenset)


def check_reply(
    site: SiteFacts, request: ServerRequest, parsed: ParsedMessage, policy: Policy
) -> CheckedReply:
    """Return the values of a reply that may be sent.

    Args:
        site: the site's facts.
        request: the request that is answered.
        parsed: the app's reply.
        policy: what may leave.

    Raises:
        RefusedError: if anything is missing, unexpected or not allowed.
    """
    if request.kind == "query":
        own = f"site.{site.name}"
        _check_records(parsed, _ExpectedRecords(configs=frozenset({own, "node"})))
        return CheckedReply(check_join(site, request, parsed.configs, policy))
    if request.kind not in ("train", "evaluate"):
        raise RefusedError("kind", f"no app answers a request of kind {shown(request.kind)}")
    training = request.kind == "train"
    arrays = frozenset({"adapter"} if training else ())
    _check_records(parsed, _ExpectedRecords(arrays, frozenset({"report"}), frozenset({"round"})))
    round_id = _check_round(site.name, request, parsed.configs["round"])
    report = check_round_report(site, request, parsed.metrics["report"], policy)
    configs = {"round": {"site": round_id.site, "round": round_id.number, "run": round_id.run}}
    if not training:
        return CheckedReply(configs, report)
    dtype = None if request.config is None else request.config.wire.dtype
    adapter = check_adapter(parsed.arrays["adapter"], request.adapter, dtype, policy)
    return CheckedReply(configs, report, adapter.data, adapter.tensors, adapter.norm, adapter.rank)


def _check_records(parsed: ParsedMessage, expected: _ExpectedRecords) -> None:
    for kind in ("arrays", "metrics", "configs"):
        found, wanted = set(getattr(parsed, kind)), getattr(expected, kind)
        if extra := sorted(found - wanted):
            raise RefusedError("record", f"{kind}: {shown(extra[0])} is not expected")
        if missing := sorted(wanted - found):
            raise RefusedError("record", f"{kind}: {missing[0]} is missing")


def _check_round(site: str, request: ServerRequest, reported: Mapping[str, Any]) -> RoundId:
    requested = request.round
    if requested is None or requested.site != site:
        raise RefusedError("question", "the request names no round of this site")
    if dict(reported) != {
        "site": requested.site,
        "round": requested.number,
        "run": requested.run,
    }:
        raise RefusedError("round", "the reply's record round differs from the requested round")
    return requested
