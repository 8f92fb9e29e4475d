"""The gate: every question passes here before an app sees it, every answer before it can leave.

It sits in the node's own process, where the app cannot reach it. `admit` decides, before an app is
started, whether a run may ask at all: by its bundle, its settings, the privacy budget and the
day's limits. `pass_on` judges the serialised answer. What may leave is rebuilt from checked values
(`client.egress.reply_rules`); in place of what may not, an error goes that says nothing of it. The audit
log has the line before the message goes. Whatever goes wrong in here, the answer stays.
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

from client.config.site_facts import Site
from client.egress.admission import KINDS, check_question
from client.egress.daily_limits import ERROR, DailyLimits
from client.egress.join_rules import own_join
from client.egress.message_parser import MAX_OBJECT_BYTES, Read, take_inventory
from client.egress.privacy_budget import PrivacyBudget
from client.egress.reply_builder import (
    NO_ANSWER,
    REASONS,
    REFUSED,
    error_reply,
    known_code,
    measure,
    release_facts,
    reply,
)
from client.egress.reply_rules import Release, judge
from client.egress.server_request import Question
from client.policy.policy import Policy
from client.policy.refusal import RefusedError
from common.errors import AuditError, PolicyError

log = logging.getLogger("fedvitals.gate")


class Record(Protocol):
    """Where decisions are recorded: the audit log, or what stands for it in a dry run."""

    def append(self, entry: Mapping[str, Any]) -> int:
        """Take a decision; return its number."""
        ...

    def since(self, moment: datetime) -> Iterable[dict[str, Any]]:
        """Give the decisions from a moment on, the oldest first."""
        ...


class Answer(NamedTuple):
    """The node's own answer to a question; None where nothing at all is sent."""

    message: Message | None


class Gate:
    """Decides about every question to a site and every answer of it.

    Args:
        site: the site itself.
        policy: gives what may leave at this moment.
        audit: where every decision is recorded.

    Raises:
        PolicyError: where there is no policy that can be read.
    """

    def __init__(self, site: Site, policy: Callable[[], Policy], audit: Record) -> None:
        self._site = site
        self._policy = policy
        self._audit = audit
        self._budget = PrivacyBudget(audit.since(datetime.min.replace(tzinfo=UTC)))
        day = datetime.now(UTC) - timedelta(days=1)
        self._limits = DailyLimits(policy(), audit.since(day))
        self._repeated: dict[str, str] = {}

    def admit(self, question: Question) -> Answer | None:
        """Decide about a question before an app sees it.

        Args:
            question: what the server asks.

        Returns:
            None where the app is to be started; otherwise the node's own answer.

        Raises:
            AuditError: where the decision cannot be recorded; then nothing may be sent at all.
        """
        entry = self._entry(question)
        try:
            policy = self._current()
            reason = policy.refusal(question.facts.bundle, datetime.now(UTC))
            if reason is not None:
                detail = f"{reason}; it was not started"
                entry |= {"decision": "refused", "reason": "bundle", "detail": detail}
                return Answer(self._say_error(ErrorCode.INVALID_FAB, question, entry))
            check_question(self._site, question, policy, self._limits, self._budget)
            if question.kind == "query" and (policy.privacy_required or question.private):
                return Answer(self._join(question, entry))
            # The scores of a validation are the patients' too, where no privacy covers them.
            if question.kind == "train" or (question.kind == "evaluate" and not question.private):
                self._reserve(question, entry)
        except RefusedError as refusal:
            entry |= {"decision": "refused", "reason": refusal.code, "detail": refusal.detail}
            return Answer(self._say_error(REFUSED, question, entry))
        except PolicyError:
            entry |= {"decision": "refused", "reason": "policy", "detail": "no policy can be read"}
            return Answer(self._say_error(REFUSED, question, entry))
        except AuditError:
            raise
        except Exception as problem:  # no app is started because the gate itself fails
            detail = f"{type(problem).__name__} in the gate"
            entry |= {"decision": "refused", "reason": "gate-failed", "detail": detail}
            return Answer(self._say_error(REFUSED, question, entry))
        return None

    def pass_on(
        self, question: Question, answer: Message, tree: ObjectTree, read: Read
    ) -> Message | None:
        """Return what is to be sent in an answer's place.

        Args:
            question: what the server asked; `admit` let it through.
            answer: the answer as it lies in the node, without its content; not trusted.
            tree: the ids of its content.
            read: gives the content's bytes.

        Returns:
            A message made here; None where nothing is sent.

        Raises:
            AuditError: as `admit`.
        """
        entry = self._entry(question)
        code = REFUSED
        try:
            policy = self._current()
            if answer.has_error():
                code = known_code(answer.error.code)
                entry |= {"decision": "error", "reason": REASONS[code]}
            else:
                release = self._judge(question, tree, read, policy, entry)
                return self._say(release, question, entry)
        except RefusedError as refusal:
            entry |= {"decision": "refused", "reason": refusal.code, "detail": refusal.detail}
        except PolicyError:
            entry |= {"decision": "refused", "reason": "policy", "detail": "no policy can be read"}
        except AuditError:
            raise
        except Exception as problem:  # nothing may slip through because the gate itself fails
            detail = f"{type(problem).__name__} in the gate"
            entry |= {"decision": "refused", "reason": "gate-failed", "detail": detail}
        return self._say_error(NO_ANSWER if self._is_private(question) else code, question, entry)

    def approves(self, bundle: str) -> bool:
        """Return whether a bundle, by its SHA-256, may run at this moment."""
        try:
            return self._policy().refusal(bundle, datetime.now(UTC)) is None
        except PolicyError:
            return False

    def drop(self, reason: str) -> None:
        """Record an answer that nobody asked for; nothing is sent in its place."""
        self._audit.append({"decision": "dropped", "reason": reason})
        log.warning("an answer was dropped: %s", reason)

    def _reserve(self, question: Question, entry: Mapping[str, Any]) -> None:
        """Enter what a round spends, before it begins.

        The same question has the same answer at no cost, where the same bytes leave again: that is
        known when the answer is there.
        """
        sent = self._budget.sent_before(entry) if question.private else ""
        self._repeated = {question.message.metadata.message_id: sent} if sent else {}
        if not sent:
            self._append_reservation(question, entry)

    def _append_reservation(self, question: Question, entry: Mapping[str, Any]) -> None:
        privacy = self._budget.reservation(question)
        if privacy is None:
            return
        line = {**entry, "decision": "reserved", "reason": "budget", "privacy": privacy}
        self._audit.append(line)
        self._budget.note(line)

    def _judge(
        self,
        question: Question,
        tree: ObjectTree,
        read: Read,
        policy: Policy,
        entry: dict[str, Any],
    ) -> Release:
        reason = policy.refusal(question.facts.bundle, datetime.now(UTC))
        if reason is not None:
            raise RefusedError("bundle", reason)
        found = take_inventory(tree, read, policy.max_bytes + 4 * MAX_OBJECT_BYTES)
        if found.has_error:
            raise RefusedError("damaged", "an error that does not say that it is one")
        release = judge(self._site, question, found, policy)
        self._limits.check(question.kind, policy)
        self._check_paid(question, release, policy, entry)
        entry |= release_facts(release, found)
        return release

    def _check_paid(
        self, question: Question, release: Release, policy: Policy, entry: Mapping[str, Any]
    ) -> None:
        """Once more before an answer leaves: its round is entered, and within the budget."""
        if question.kind != "train" or not question.private:
            return
        sent = self._repeated.pop(question.message.metadata.message_id, "")
        if sent and sent != hashlib.sha256(release.adapter or b"").hexdigest():
            self._budget.check(question, policy, anew=True)  # trained anew, so it is spent anew
            self._append_reservation(question, entry)
        self._budget.check_spent(policy)

    def _join(self, question: Question, entry: dict[str, Any]) -> Message:
        if question.config is None:
            raise RefusedError("run", "its settings have not been read")
        release = Release(own_join(self._site, question.config))
        entry |= {"configs": {name: dict(of) for name, of in release.configs.items()}}
        return self._say(release, question, entry)

    def _current(self) -> Policy:
        policy = self._policy()
        self._limits.note_policy(policy)
        return policy

    def _is_private(self, question: Question) -> bool:
        """Whether an app's answer is covered by privacy; also where that cannot be known."""
        try:
            return question.private or self._policy().privacy_required
        except PolicyError:
            return True

    def _say(self, release: Release, question: Question, entry: dict[str, Any]) -> Message:
        entry |= {"decision": "sent", "reason": "allowed"}
        message = reply(release, question.message)
        self._record(entry, message)
        self._limits.count(question.kind)
        self._budget.note(entry)
        return message

    def _say_error(self, code: int, question: Question, entry: dict[str, Any]) -> Message | None:
        """Record an error and return it; None where the day's errors have all been said."""
        message = None
        if self._limits.may_say_error():
            message = error_reply(code, question.message)
        else:
            entry |= {"silent": True}
        self._record(entry, message)
        if message is not None:
            self._limits.count(ERROR)
        return message

    def _record(self, entry: Mapping[str, Any], message: Message | None) -> None:
        number = self._audit.append({**entry, **({} if message is None else measure(message))})
        log.info(
            "answer %s: %s %s, line %d of the audit log",
            entry["kind"],
            entry["decision"],
            entry["reason"],
            number,
        )

    def _entry(self, question: Question) -> dict[str, Any]:
        """All that a line of the audit log says of a question."""
        name, settings = question.round, question.facts.settings
        entry = {
            "kind": question.kind if question.kind in KINDS else "other",
            "flower-run": question.message.metadata.run_id,
            "run": None if name is None else name.run,
            "round": None if name is None else name.number,
            "bundle": question.facts.bundle or None,
            "settings": None if settings is None else settings.record(),
        }
        return entry | ({"received": question.received} if question.received else {})
