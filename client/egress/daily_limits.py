"""How often a site answers within a day: a limit of its own for every kind of message that leaves.

Errors count too. Which error is sent, and that one is sent, tells something; so there are only so
many, and after them the site is silent.
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
    """The answers of the last 24 hours, by kind.

    Args:
        policy: as it stands.
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
        """Take the limit of errors over: it holds also while no policy can be read."""
        self._errors_per_day = policy.errors_per_day

    def check(self, kind: str, policy: Policy) -> None:
        """Refuse an answer of a kind of which there were enough.

        Args:
            kind: ``train``, ``evaluate`` or ``query``.
            policy: with the limits.

        Raises:
            RefusedError: where the day's answers of the kind have all been given.
        """
        most = {
            "train": policy.rounds_per_day,
            "evaluate": policy.evaluations_per_day,
            "query": policy.joins_per_day,
        }[kind]
        given = self._count(kind)
        if given >= most:
            raise RefusedError("rate", f"{given} answers to {kind} within a day, the policy's most")

    def may_say_error(self) -> bool:
        """Whether an error may still be sent today."""
        return self._count(ERROR) < self._errors_per_day

    def count(self, kind: str) -> None:
        """Note an answer that is sent now."""
        self._times[kind].append(datetime.now(UTC))

    def _count(self, kind: str) -> int:
        times, day_ago = self._times[kind], datetime.now(UTC) - _DAY
        while times and times[0] < day_ago:
            times.popleft()
        return len(times)
