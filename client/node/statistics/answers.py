"""Answers to requests for statistics: at most one new one in `per-days`, else the stored bytes.

Two answers about tables that differ by one patient give the difference away: of exact counts the
patient's bins, of noisy ones a second draw of the noise. So a coordinator that asks every day must
not get a count of every day's table:

- until `per-days` days after the last count the stored bytes are sent, whatever the table is now.
  They are sent without a look at the table, so that neither a reply nor its time tells whether the
  table has changed;
- after that the table is counted anew. In that time many patients come and go, and the difference
  of two counts is not one patient's. If the numbers of patients differ by less than the threshold,
  exact counts are not sent: the stored bytes are;
- a noisy count is paid each time, also if the table is the same: fresh noise for a changed table
  alone would tell that it has changed. Where the budget does not cover a new one, the stored bytes
  are sent. Without stored bytes the request is refused;
- exact counts have no such bound, which is why a site that has no privacy guarantee should choose
  long intervals, or no statistics. An unchanged table has the same exact bytes, and no new line in
  the log;
- after a change of the rules (threshold, epsilon, delta) the stored bytes are not sent any more,
  and nothing is, until `per-days` have passed. Two thresholds give two views of one table, which
  together give small counts away, so an exact count with another threshold also needs a number of
  patients that has changed by at least the threshold;
- if the stored bytes are gone, nothing is sent until `per-days` have passed, except exact counts of
  an unchanged table.

The bytes are on the disk before the audit log has their digest, and that before they are sent. Only
bytes with the digest of the log's last count are sent: another file in their place is not.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
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
from common.errors import PrivacyError
from common.files.atomic_io import write_text
from common.files.private import OWNER_ONLY

if TYPE_CHECKING:
    from client.node.statistics.noise import NoisePlan
    from common.data.statistics.reply import SiteStatistics

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
        due = self._counted_at + timedelta(days=rules.per_days)
        waits, last = self._now() < due, self._last
        if last is None:
            return self._count(rules, site, self._table.digest(), check_cost)
        stored = self._stored(last["sha256"])
        earlier = None if stored is None else Answer(stored, last, counted=False)
        same_rules = _same_rules(last, rules)
        if earlier and same_rules and (waits or not _covered(rules, check_cost)):
            return earlier
        digest = self._table.digest()
        same_exact = same_rules and not rules.epsilon and last["table"] == digest
        if same_exact and earlier:
            return earlier
        if waits and not same_exact:
            raise RefusedError(
                "statistics-wait",
                "the rules of [statistics] have changed, or the stored answer is gone; "
                f"the table is counted anew from {due:%Y-%m-%d} on",
            )
        return self._count(rules, site, digest, check_cost, earlier)

    def _count(
        self,
        rules: StatisticsSection,
        site: SiteFacts,
        digest: str,
        check_cost: CheckCost,
        earlier: Answer | None = None,
    ) -> Answer:
        from client.node.statistics.site_reply import site_statistics

        plan, cost = _plan(rules)
        check_cost(cost)
        table = self._table.read()
        if self._table.digest() != digest:
            raise RefusedError("table", "the table was replaced while it was read")
        if site.step_minutes not in (0, table.info.step_minutes):
            raise RefusedError("table", "its step length is not site.step-minutes of site.toml")
        found = site_statistics(table, rules.least_count, plan, source=site.source, rule=site.rule)
        if earlier and not plan and _few_apart(earlier.text, found):
            if _same_rules(earlier.facts, rules):
                return earlier
            raise RefusedError(
                "statistics-wait",
                "the table has about the same patients as at the last count, which had another "
                "threshold: the two answers together would give small counts away",
            )
        text = found.text()
        write_text(self._file, text, OWNER_ONLY)
        facts = {"table": digest, **_rules_facts(rules), "sha256": _digest(text)}
        return Answer(text, facts, counted=True, cost=cost)

    def _stored(self, digest: str) -> str | None:
        """Return the stored text if it has the digest; None if it is gone, or another."""
        try:
            # An app without isolation may have put a link or a pipe in its place.
            handle = os.open(self._file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                return None
            with os.fdopen(handle, "rb", closefd=False) as file:
                data = file.read(4 * MAX_CHARACTERS + 1)
        except OSError:
            return None
        finally:
            os.close(handle)
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

    try:
        plan = plan_noise(rules.epsilon, rules.delta) if rules.epsilon else None
    except PrivacyError as problem:
        raise RefusedError("privacy", f"[statistics] of the policy: {problem}") from None
    return plan, None if plan is None else plan.cost


def _rules_facts(rules: StatisticsSection) -> dict[str, Any]:
    return {"threshold": rules.least_count, "epsilon": rules.epsilon, "delta": rules.delta}


def _same_rules(last: Mapping[str, Any], rules: StatisticsSection) -> bool:
    return all(last.get(key) == value for key, value in _rules_facts(rules).items())


def _few_apart(earlier: str, found: SiteStatistics) -> bool:
    """Return whether the difference of two exact answers may be that of few patients.

    With two thresholds also if none has come or gone: a cell that only the lower one tells is in a
    sum with a small one under the higher.
    """
    before = json.loads(earlier)
    if before["privacy"] or None in (before["patients"], found.patients):
        return False
    apart = abs(before["patients"] - (found.patients or 0))
    least = max(before["threshold"], found.threshold)
    return bool(apart < least and (apart > 0 or before["threshold"] != found.threshold))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
