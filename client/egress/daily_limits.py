"""Daily limits: how many messages of each kind a site sends within 24 hours.

Errors are limited too: an error, and which one it is, reveals something. Once their limit is
reached the site sends nothing.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from client.policy.policy import Policy
from client.policy.refusal import RefusedError

ERROR = "error"
_DAY = timedelta(days=1)


class DailyLimits:
    """Counts the messages sent in the last 24 hours, by kind.

    Args:
        policy: the policy in force.
        entries: the audit log's lines of the last day, the oldest first.
    """

    def __init__(self, policy: Policy, entries: Iterable[Mapping[str, Any]]) -> None:
        self._errors_per_day = policy.errors_per_day
        self._times: defaultdict[str, deque[datetime]] = defaultdict(deque)
        for entry in entries:
            decision, moment = entry.get("decision"), datetime.fromisoformat(entry["time"])
            if decision == "sent":
                self._times[str(entry.get("kind"))].append(moment)
            elif decision in ("refused", "error") and not entry.get("silent"):
                self._times[ERROR].append(moment)

    def note_policy(self, policy: Policy) -> None:
        """Take over the limit of errors, which also applies while no policy can be read."""
        self._errors_per_day = policy.errors_per_day

    def check(self, kind: str, policy: Policy) -> None:
        """Refuse a reply of a kind whose limit is reached.

        Args:
            kind: ``train``, ``evaluate`` or ``query``.
            policy: the policy in force, with the limits.

        Raises:
            RefusedError: if the limit of this kind is reached.
        """
        most = {
            "train": policy.rounds_per_day,
            "evaluate": policy.evaluations_per_day,
            "query": policy.joins_per_day,
        }[kind]
        sent = self._count(kind)
        if sent >= most:
            raise RefusedError("rate", f"{sent} replies to {kind} in 24 hours, the policy's limit")

    def may_send_error(self) -> bool:
        """Return whether an error may still be sent within the limit."""
        return self._count(ERROR) < self._errors_per_day

    def count(self, kind: str) -> None:
        """Count a message that is sent now."""
        self._times[kind].append(datetime.now(UTC))

    def _count(self, kind: str) -> int:
        times, day_ago = self._times[kind], datetime.now(UTC) - _DAY
        while times and times[0] < day_ago:
            times.popleft()
        return len(times)
