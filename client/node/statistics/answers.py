"""Answers to requests for statistics: at most one new one in `per-days`, else the stored bytes.

Two answers about tables that differ by one patient give the difference away: of exact counts the
patient's bins, of noisy ones a second draw of the noise. So a coordinator that asks every day must
not get a count of every day's table:

- the same table under the same rules always gets the stored bytes, which reveal nothing new;
- a changed table gets them too, until `per-days` days after the last count. Then it is counted
  anew. In that time many patients come and go, and the difference of two counts is not one
  patient's. What a noisy one costs is recorded each time; exact ones have no such bound, which is
  why a site that has no privacy guarantee should choose long intervals, or no statistics;
- where the budget does not cover a new count, the stored bytes are sent: a refusal would say that
  the table has changed. Without stored bytes the request is refused;
- after a change of the rules (threshold, epsilon, delta) the stored bytes are not sent any more,
  and nothing is, until `per-days` have passed: two thresholds would give two views of one table.

The bytes are on the disk before the audit log has their digest, and that before they are sent. Only
bytes with the digest of the log's last count are sent: another file in their place is not.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from client.config.site_facts import SiteFacts
from client.node.statistics.table_file import TableFile
from client.policy.policy import StatisticsSection
from client.policy.refusal import RefusedError
from client.privacy.accountant import Steps
from common.data.statistics.reply import MAX_CHARACTERS
from common.files.atomic_io import write_text
from common.files.private import OWNER_ONLY

if TYPE_CHECKING:
    from client.node.statistics.noise import NoisePlan

FILE_NAME = "statistics.json"
"""In the site's state folder."""
RECORD = "statistics"
"""Key of an answer's facts in a line of the audit log."""

Now = Callable[[], datetime]
CheckCost = Callable[[Steps | None], None]
"""Raises `RefusedError` if the budget does not cover a cost; None = exact counts."""


@dataclass(frozen=True)
class Answer:
    """An answer that may be sent.

    Attributes:
        text: the JSON text of a `common.data.statistics.reply.SiteStatistics`.
        facts: digests and rules, for the audit log.
        counted: whether the table was counted anew; its cost is then to be recorded first.
        cost: the noisy step that it cost; None = exact counts.
    """

    text: str
    facts: Mapping[str, Any]
    counted: bool
    cost: Steps | None = None


class StatisticsAnswers:
    """The site's answers, past ones included.

    Args:
        table: the site table.
        state: the site's state folder, in which the last answer is stored.
        now: the clock.
    """

    def __init__(self, table: Path, state: Path, now: Now = lambda: datetime.now(UTC)) -> None:
        self._table = TableFile(table)
        self._file = state / FILE_NAME
        self._now = now
        self._last: Mapping[str, Any] | None = None
        self._counted_at = datetime.min.replace(tzinfo=UTC)

    def note_all(self, entries: Iterable[Mapping[str, Any]]) -> None:
        """Take the lines of the audit log into account, the oldest first."""
        for entry in entries:
            self.note(entry)

    def note(self, entry: Mapping[str, Any]) -> None:
        """Take a line of the audit log into account: the last count is the one that is stored."""
        if entry.get("decision") == "reserved" and RECORD in entry:
            self._last = entry[RECORD]
            time = entry.get("time")
            self._counted_at = self._now() if time is None else datetime.fromisoformat(time)

    def answer(self, rules: StatisticsSection, site: SiteFacts, check_cost: CheckCost) -> Answer:
        """Return the answer to a request, stored or counted anew.

        Args:
            rules: the policy's section.
            site: the site's facts.
            check_cost: called before a new count.

        Raises:
            RefusedError: if the table cannot be read, the budget does not cover the cost, or the
                rules have changed since the last count.
        """
        facts = {
            "table": self._table.digest(),
            "threshold": rules.least_count,
            "epsilon": rules.epsilon,
            "delta": rules.delta,
        }
        last = self._last
        if last is not None:
            stored = self._stored(last["sha256"])
            same = all(last.get(key) == value for key, value in facts.items())
            if same and stored is not None:
                return Answer(stored, last, counted=False)
            due = self._counted_at + timedelta(days=rules.per_days)
            if not same and self._now() < due:
                if stored is None or not _same_rules(last, facts):
                    raise RefusedError(
                        "statistics-wait",
                        "the rules of [statistics] have changed, or the stored answer is gone; "
                        f"the table is counted anew from {due:%Y-%m-%d} on",
                    )
                return Answer(stored, last, counted=False)
            if stored is not None and _same_rules(last, facts) and not _covered(rules, check_cost):
                # A refusal would say that the table has changed.
                return Answer(stored, last, counted=False)
        return self._count(rules, site, facts, check_cost)

    def _count(
        self,
        rules: StatisticsSection,
        site: SiteFacts,
        facts: Mapping[str, Any],
        check_cost: CheckCost,
    ) -> Answer:
        from client.node.statistics.site_reply import site_statistics

        plan, cost = _plan(rules)
        check_cost(cost)
        table = self._table.read()
        if self._table.digest() != facts["table"]:
            raise RefusedError("table", "the table was replaced while it was read")
        if site.step_minutes not in (0, table.info.step_minutes):
            raise RefusedError("table", "its step length is not site.step-minutes of site.toml")
        text = site_statistics(
            table, rules.least_count, plan, source=site.source, rule=site.rule
        ).text()
        write_text(self._file, text, OWNER_ONLY)
        return Answer(text, {**facts, "sha256": _digest(text)}, counted=True, cost=cost)

    def _stored(self, digest: str) -> str | None:
        """Return the stored text if it has the digest; None if it is gone, or another."""
        try:
            with self._file.open("rb") as file:
                data = file.read(4 * MAX_CHARACTERS + 1)
        except OSError:
            return None
        return data.decode() if hashlib.sha256(data).hexdigest() == digest else None


def _covered(rules: StatisticsSection, check_cost: CheckCost) -> bool:
    try:
        check_cost(_plan(rules)[1])
    except RefusedError:
        return False
    return True


def _plan(rules: StatisticsSection) -> tuple[NoisePlan | None, Steps | None]:
    """Return the noise of an answer and its cost; None for exact counts."""
    from client.node.statistics.noise import plan_noise

    plan = plan_noise(rules.epsilon, rules.delta) if rules.epsilon else None
    return plan, None if plan is None else plan.cost


def _same_rules(last: Mapping[str, Any], facts: Mapping[str, Any]) -> bool:
    return all(last.get(key) == facts[key] for key in facts if key != "table")


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
