"""The gate: every answer passes here before it can leave, whoever made it.

It sits in the node's own process, where the app cannot reach it, and judges the serialised message.
What may leave is rebuilt from checked values (`client.site.rules`); in place of what may not, an
error goes that says nothing of it. The audit log has the line before the message goes. Whatever
goes wrong in here, the answer stays.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

from flwr.app import Array, ArrayRecord, ConfigRecord, Error, Message, MetricRecord, RecordDict
from flwr.common.constant import ErrorCode
from flwr.proto.message_pb2 import ObjectTree
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects

from client.site.inventory import MAX_OBJECT_BYTES, Inventory, Read, take_inventory
from client.site.policy import Policy
from client.site.question import Question
from client.site.refused import RefusedError
from client.site.rules import Release, Site, judge
from common.errors import PolicyError
from common.wire import ARRAY_DTYPE, ARRAY_KEY, ARRAY_STYPE

CLIENT_FAILED = 1001
REFUSED = 1002
REASONS: dict[int, str] = {
    REFUSED: "refused by the site's policy",
    CLIENT_FAILED: "the app failed at this site",
    ErrorCode.INVALID_FAB: "the app bundle is not approved at this site",
    ErrorCode.CLIENT_APP_CRASHED: "the app stopped at this site",
}
"""All that an error can say, by its code; every other code becomes `CLIENT_FAILED`."""

ROUNDS = ("train", "evaluate")

log = logging.getLogger("fedvitals.gate")


class Record(Protocol):
    """Where decisions are recorded: the audit log, or what stands for it in a dry run."""

    def append(self, entry: Mapping[str, Any]) -> int:
        """Take a decision; return its number."""
        ...

    def since(self, moment: datetime) -> Iterable[dict[str, Any]]:
        """Give the decisions from a moment on, the oldest first."""
        ...


class Gate:
    """Decides about every answer of a site.

    Args:
        site: the site itself.
        policy: gives what may leave at this moment.
        audit: where every decision is recorded.
    """

    def __init__(self, site: Site, policy: Callable[[], Policy], audit: Record) -> None:
        self._site = site
        self._policy = policy
        self._audit = audit
        self._rounds = [
            datetime.fromisoformat(entry["time"])
            for entry in audit.since(datetime.now(UTC) - timedelta(days=1))
            if entry.get("decision") == "sent" and entry.get("kind") in ROUNDS
        ]

    def pass_on(
        self,
        question: Question,
        answer: Message,
        tree: ObjectTree,
        read: Read,
        bundle: str,
    ) -> Message:
        """Return what is to be sent in an answer's place.

        Args:
            question: what the server asked.
            answer: the answer as it lies in the node, without its content; not trusted.
            tree: the ids of its content.
            read: gives the content's bytes.
            bundle: SHA-256 of the app bundle that the run brought; empty where it brought none.

        Returns:
            A message made here.

        Raises:
            AuditError: where the decision cannot be recorded; then nothing may be sent at all.
        """
        entry = _entry(question, bundle)
        try:
            message = self._answer(question, answer, tree, read, bundle, entry)
        except RefusedError as refusal:
            entry |= {"decision": "refused", "reason": refusal.code, "detail": refusal.detail}
            message = _error(REFUSED, question)
        except PolicyError:
            entry |= {"decision": "refused", "reason": "policy", "detail": "no policy can be read"}
            message = _error(REFUSED, question)
        except Exception as problem:  # nothing may slip through because the gate itself fails
            detail = f"{type(problem).__name__} in the gate"
            entry |= {"decision": "refused", "reason": "gate-failed", "detail": detail}
            message = _error(REFUSED, question)
        self._record(entry, message)
        if entry["decision"] == "sent" and question.kind in ROUNDS:
            self._rounds.append(datetime.now(UTC))
        return message

    def approves(self, bundle: str) -> bool:
        """Return whether a bundle, by its SHA-256, may run at this moment."""
        try:
            return bundle in self._policy().bundles
        except PolicyError:
            return False

    def turn_away(self, question: Question, bundle: str) -> Message:
        """Return the answer to a question whose app may not run, or no longer; it is not started.

        Raises:
            AuditError: as `pass_on`.
        """
        code = ErrorCode.INVALID_FAB
        message = _error(code, question)
        detail = "the app bundle is not approved, or no longer; it was not started"
        entry = {"decision": "refused", "reason": "bundle", "detail": detail}
        self._record(_entry(question, bundle) | entry, message)
        return message

    def drop(self, reason: str) -> None:
        """Record an answer that nobody asked for; nothing is sent in its place."""
        self._audit.append({"decision": "dropped", "reason": reason})
        log.warning("an answer was dropped: %s", reason)

    def _record(self, entry: dict[str, Any], message: Message) -> None:
        number = self._audit.append(entry | _measure(message))
        log.info(
            "answer %s: %s %s, line %d of the audit log",
            entry["kind"],
            entry["decision"],
            entry["reason"],
            number,
        )

    def _answer(
        self,
        question: Question,
        answer: Message,
        tree: ObjectTree,
        read: Read,
        bundle: str,
        entry: dict[str, Any],
    ) -> Message:
        if answer.has_error():
            code = answer.error.code
            code = code if code in REASONS else CLIENT_FAILED
            entry |= {"decision": "error", "reason": REASONS[code]}
            return _error(code, question)
        policy = self._policy()
        if bundle not in policy.bundles:
            raise RefusedError("bundle", "the app bundle is not approved, or no longer")
        found = take_inventory(tree, read, policy.max_bytes + 4 * MAX_OBJECT_BYTES)
        if found.has_error:
            raise RefusedError("damaged", "an error that does not say that it is one")
        release = judge(self._site, question, found, policy)
        if question.kind in ROUNDS:
            self._check_rate(policy)
        entry |= {"decision": "sent", "reason": "allowed", **_facts(release, found)}
        return Message(_content(release), reply_to=question.message)

    def _check_rate(self, policy: Policy) -> None:
        day_ago = datetime.now(UTC) - timedelta(days=1)
        self._rounds = [moment for moment in self._rounds if moment >= day_ago]
        if len(self._rounds) >= policy.rounds_per_day:
            raise RefusedError(
                "rate", f"{len(self._rounds)} rounds within a day, as many as the policy allows"
            )


def _entry(question: Question, bundle: str) -> dict[str, Any]:
    metadata, name = question.message.metadata, question.round
    kind = question.kind if question.kind in (*ROUNDS, "query") else "other"
    return {
        "kind": kind,
        "flower-run": metadata.run_id,
        "run": None if name is None else name.run,
        "round": None if name is None else name.number,
        "bundle": bundle or None,
    }


def _facts(release: Release, found: Inventory) -> dict[str, Any]:
    """What the audit log says of a message that leaves."""
    facts: dict[str, Any] = {"configs": {name: dict(of) for name, of in release.configs.items()}}
    if release.report is not None:
        facts |= {"metrics": dict(release.report), "epsilon": release.epsilon}
    if release.adapter is not None:
        facts["adapter"] = {
            "tensors": [[name, dtype, list(shape)] for name, dtype, shape in release.tensors],
            "rank": release.rank,
            "norm": release.norm,
            "bytes": len(release.adapter),
            "sha256": hashlib.sha256(release.adapter).hexdigest(),
        }
    return facts | {"answer-bytes": found.size}


def _content(release: Release) -> RecordDict:
    records: dict[str, Any] = {
        name: ConfigRecord(dict(values)) for name, values in release.configs.items()
    }
    if release.report is not None:
        records["report"] = MetricRecord(dict(release.report))
    if release.adapter is not None:
        data = release.adapter
        array = Array(dtype=ARRAY_DTYPE, shape=(len(data),), stype=ARRAY_STYPE, data=data)
        records["adapter"] = ArrayRecord({ARRAY_KEY: array})
    return RecordDict(records)


def _error(code: int, question: Question) -> Message:
    return Message(Error(code=code, reason=REASONS[code]), reply_to=question.message)


def _measure(message: Message) -> dict[str, Any]:
    """Bytes of the message as it leaves, and its digest, which is its id at the server too."""
    objects = get_all_nested_objects(message).values()
    return {"bytes": sum(_sizes(objects)), "message": message.object_id}


def _sizes(objects: Iterable[Any]) -> Iterable[int]:
    return (len(one.deflate()) for one in objects)
