"""The egress gate: decides on every request to a site and every reply from it.

The gate runs in the node's own process, where the app cannot reach it.

1. `Gate.admit` decides on a request before an app is started for it and its cost is charged: by
   its app bundle, its settings, the reply that it would have, the day's limits and the privacy
   budget (`client.egress.admission`). The coordinator is told which of these refused it.
2. `Gate.filter_reply` checks the app's serialised reply (`client.egress.reply_rules`) and returns
   a message rebuilt from the checked values (`client.egress.reply_builder`). A reply that fails a
   check is replaced by an error with a fixed text.

Each decision is in the audit log before its message is sent. If the gate itself fails, the app is
not started and its reply is not sent.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple, Protocol

from flwr.app import Message
from flwr.common.constant import ErrorCode
from flwr.proto.message_pb2 import ObjectTree

from client.config.site_facts import SiteFacts
from client.egress.admission import (
    REQUEST_KINDS,
    check_request,
    check_run_settings,
    check_statistics_request,
)
from client.egress.daily_limits import ERROR, DailyLimits
from client.egress.join_rules import node_join
from client.egress.message_parser import MAX_OBJECT_BYTES, ReadObject, parse_message
from client.egress.privacy_budget import PrivacyBudget, cost_fields
from client.egress.reply_builder import (
    ERROR_REASONS,
    NO_REPLY,
    build_error,
    build_reply,
    known_code,
    message_facts,
    reply_facts,
)
from client.egress.reply_rules import CheckedReply, check_reply
from client.egress.server_request import ServerRequest
from client.node.statistics.answers import RECORD as STATISTICS
from client.node.statistics.answers import StatisticsAnswers
from client.policy.policy import Policy
from client.policy.refusal import REFUSED, PublicReason, RefusedError, public_reason
from common.config.site_rank import rank_refusal
from common.config.step_length import step_refusal
from common.data.statistics.reply import KEY, RECORD
from common.errors import AuditError, PolicyError

log = logging.getLogger("fedvitals.gate")


class DecisionLog(Protocol):
    """Log of the gate's decisions: the audit log, or a dry run's copy in memory."""

    def append(self, entry: Mapping[str, Any]) -> int:
        """Record a decision; return its number."""
        ...

    def since(self, moment: datetime) -> Iterable[dict[str, Any]]:
        """Yield the decisions from a moment on, the oldest first."""
        ...


class NodeReply(NamedTuple):
    """The node's own reply to a request, in place of the app's; None = send nothing."""

    message: Message | None


class Gate:
    """Decides on every request to a site and every reply from it.

    Args:
        site: the site's facts.
        policy: returns the policy in force.
        audit: records every decision.
        statistics: the node's answers to requests for statistics; None = they are refused.

    Raises:
        PolicyError: if the policy cannot be read.
    """

    def __init__(
        self,
        site: SiteFacts,
        policy: Callable[[], Policy],
        audit: DecisionLog,
        statistics: StatisticsAnswers | None = None,
    ) -> None:
        self._site = site
        self._policy = policy
        self._audit = audit
        self._budget = PrivacyBudget(audit.since(datetime.min.replace(tzinfo=UTC)))
        day = datetime.now(UTC) - timedelta(days=1)
        self._limits = DailyLimits(policy(), audit.since(day))
        self._repeated: dict[str, str] = {}
        self._statistics = statistics
        if statistics is not None:
            statistics.note_all(audit.since(datetime.min.replace(tzinfo=UTC)))

    def admit(self, request: ServerRequest) -> NodeReply | None:
        """Decide on a request before an app is started for it.

        Args:
            request: the server's request.

        Returns:
            None if the app may be started; otherwise the node's own reply.

        Raises:
            AuditError: if the decision cannot be recorded; then nothing may be sent.
        """
        entry = self._entry(request)
        if "detail" in entry:
            log.warning("the coordinator will not admit this site: %s", entry["detail"])
        try:
            policy = self._current_policy()
            reason = policy.refusal(request.run.bundle, datetime.now(UTC))
            if reason is not None:
                detail = f"{reason}; it was not started"
                entry |= {"decision": "refused", "reason": "bundle", "detail": detail}
                return NodeReply(self._send_error(ErrorCode.INVALID_FAB, request, entry))
            if request.config is not None and request.config.statistics:
                return NodeReply(self._send_statistics(request, policy, entry))
            check_request(self._site, request, policy, self._limits, self._budget)
            if request.kind == "query" and (policy.privacy_required or request.private):
                return NodeReply(self._send_node_join(request, entry))
            # Validation scores depend on the patients too, and need budget unless they are private.
            if request.kind == "train" or (request.kind == "evaluate" and not request.private):
                self._reserve(request, entry)
        except AuditError:
            raise
        except Exception as problem:  # a fault in the gate starts no app
            entry |= _refusal_fields(problem)
            told = public_reason(problem)
            return NodeReply(self._send_error(REFUSED, request, entry, told))
        return None

    def _send_node_join(self, request: ServerRequest, entry: dict[str, Any]) -> Message:
        """Reply to a private join request with the site's constants; the app is not started."""
        if request.config is None:
            raise RefusedError("run", "its settings have not been read")
        checked = CheckedReply(node_join(self._site, request.config))
        entry |= {"configs": {name: dict(of) for name, of in checked.configs.items()}}
        return self._send(checked, request, entry)

    def _send_statistics(
        self, request: ServerRequest, policy: Policy, entry: dict[str, Any]
    ) -> Message:
        """Reply to a request for statistics; no app is started in such a run.

        A new count is recorded with its cost, and its bytes are on the disk, before it is sent.
        """
        rules = check_statistics_request(self._site, request, policy, self._limits)
        if self._statistics is None:
            raise RefusedError("statistics", "this node counts no statistics")
        answer = self._statistics.answer(
            rules, self._site, lambda cost: self._budget.check_release(cost, policy, self._site)
        )
        entry |= {STATISTICS: dict(answer.facts)}
        if answer.counted:
            privacy = {} if answer.cost is None else cost_fields(answer.cost)
            run = {"run": STATISTICS, "decision": "reserved", "reason": "budget"}
            line = {**entry, **run, "privacy": privacy}
            self._audit.append(line)
            self._budget.note(line)
            self._statistics.note(line)
        return self._send(CheckedReply({RECORD: {KEY: answer.text}}), request, entry)

    def _reserve(self, request: ServerRequest, entry: Mapping[str, Any]) -> None:
        """Record a round's privacy cost before the round begins.

        A repeated request costs nothing if the reply has the same bytes as before, which
        `_check_paid` verifies once the reply is there.
        """
        sent = self._budget.sent_before(entry) if request.private else ""
        self._repeated = {request.message.metadata.message_id: sent} if sent else {}
        if not sent:
            self._append_reservation(request, entry)

    def _append_reservation(self, request: ServerRequest, entry: Mapping[str, Any]) -> None:
        privacy = self._budget.reservation(request)
        if privacy is None:
            return
        line = {**entry, "decision": "reserved", "reason": "budget", "privacy": privacy}
        self._audit.append(line)
        self._budget.note(line)

    def filter_reply(
        self, request: ServerRequest, reply: Message, tree: ObjectTree, read: ReadObject
    ) -> Message | None:
        """Return the message to send in place of the app's reply.

        Args:
            request: the request, admitted by `admit`.
            reply: the app's reply without its content; not trusted.
            tree: the object ids of its content.
            read: returns an object's bytes.

        Returns:
            A message built by the gate; None = send nothing.

        Raises:
            AuditError: if the decision cannot be recorded; then nothing may be sent.
        """
        entry = self._entry(request)
        code = REFUSED
        try:
            policy = self._current_policy()
            if reply.has_error():
                code = known_code(reply.error.code)
                entry |= {"decision": "error", "reason": ERROR_REASONS[code]}
            else:
                checked = self._check(request, tree, read, policy, entry)
                return self._send(checked, request, entry)
        except AuditError:
            raise
        except Exception as problem:  # a fault in the gate lets nothing through
            entry |= _refusal_fields(problem)
        return self._send_error(NO_REPLY if self._is_private(request) else code, request, entry)

    def _check(
        self,
        request: ServerRequest,
        tree: ObjectTree,
        read: ReadObject,
        policy: Policy,
        entry: dict[str, Any],
    ) -> CheckedReply:
        reason = policy.refusal(request.run.bundle, datetime.now(UTC))
        if reason is not None:
            raise RefusedError("bundle", reason)
        if request.config is not None and request.config.statistics:
            raise RefusedError("kind", "no app answers a request for statistics")
        check_run_settings(request, policy)  # the policy may have changed since the request
        parsed = parse_message(tree, read, policy.max_bytes + 4 * MAX_OBJECT_BYTES)
        if parsed.has_error:
            raise RefusedError("damaged", "an error reply that is not marked as one")
        checked = check_reply(self._site, request, parsed, policy)
        self._limits.check(request.kind, policy)
        self._check_paid(request, checked, policy, entry)
        entry |= reply_facts(checked, parsed)
        return checked

    def _check_paid(
        self,
        request: ServerRequest,
        checked: CheckedReply,
        policy: Policy,
        entry: Mapping[str, Any],
    ) -> None:
        """Check again before a private round leaves that its cost is recorded and in budget."""
        if request.kind != "train" or not request.private:
            return
        sent = self._repeated.pop(request.message.metadata.message_id, "")
        if sent and sent != hashlib.sha256(checked.adapter or b"").hexdigest():
            self._budget.check(request, policy, anew=True)  # trained anew, so it is spent anew
            self._append_reservation(request, entry)
        self._budget.check_spent(policy)

    def _is_private(self, request: ServerRequest) -> bool:
        """Return whether the reply is under a privacy guarantee; True if that is unknown."""
        try:
            return request.private or self._policy().privacy_required
        except PolicyError:
            return True

    def approves(self, bundle: str) -> bool:
        """Return whether the policy approves a bundle now, by its SHA-256."""
        try:
            return self._policy().refusal(bundle, datetime.now(UTC)) is None
        except PolicyError:
            return False

    def drop(self, reason: str) -> None:
        """Record a reply to no open request; nothing is sent."""
        self._audit.append({"decision": "dropped", "reason": reason})
        log.warning("a reply was dropped: %s", reason)

    def _current_policy(self) -> Policy:
        policy = self._policy()
        self._limits.note_policy(policy)
        return policy

    def _entry(self, request: ServerRequest) -> dict[str, Any]:
        """Return the audit log's fields about a request."""
        round_id, settings = request.round, request.run.settings
        entry = {
            "kind": request.kind if request.kind in REQUEST_KINDS else "other",
            "flower-run": request.message.metadata.run_id,
            "run": None if round_id is None else round_id.run,
            "round": None if round_id is None else round_id.number,
            "bundle": request.run.bundle or None,
            "settings": None if settings is None else settings.record(),
        }
        joins = request.config is not None and not request.config.statistics
        if request.kind == "query" and request.config is not None and joins:
            # The coordinator decides it; the site reads here why.
            unfit = rank_refusal(self._site.rank, request.config) or step_refusal(
                self._site.step_minutes, request.config
            )
            entry |= {"detail": unfit} if unfit else {}
        return entry | ({"received": request.adapter_sha256} if request.adapter_sha256 else {})

    def _send(
        self, checked: CheckedReply, request: ServerRequest, entry: dict[str, Any]
    ) -> Message:
        """Build and record the message that is sent."""
        entry |= {"decision": "sent", "reason": "allowed"}
        message = build_reply(checked, request.message)
        self._record(entry, message)
        self._limits.count(request.kind)
        self._budget.note(entry)
        return message

    def _send_error(
        self,
        code: int,
        request: ServerRequest,
        entry: dict[str, Any],
        reason: PublicReason = PublicReason.NONE,
    ) -> Message | None:
        """Build and record an error; None once the day's limit of errors is reached."""
        message = None
        if self._limits.may_send_error():
            message = build_error(code, request.message, reason)
            entry |= {"told": reason.value} if reason else {}
        else:
            entry |= {"silent": True}
        self._record(entry, message)
        if message is not None:
            self._limits.count(ERROR)
        return message

    def _record(self, entry: Mapping[str, Any], message: Message | None) -> None:
        facts = {} if message is None else message_facts(message)
        number = self._audit.append({**entry, **facts})
        log.info(
            "reply to %s: %s (%s), line %d of the audit log",
            entry["kind"],
            entry["decision"],
            entry["reason"],
            number,
        )


def _refusal_fields(problem: Exception) -> dict[str, str]:
    """Return the audit log's fields about a refusal; of an unexpected error only its type."""
    if isinstance(problem, RefusedError):
        reason, detail = problem.code, problem.detail
    elif isinstance(problem, PolicyError):
        reason, detail = "policy", "the policy cannot be read"
    else:
        reason, detail = "gate-failed", f"{type(problem).__name__} in the gate"
    return {"decision": "refused", "reason": reason, "detail": detail}
