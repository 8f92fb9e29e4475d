"""Statement of the ledger: the epsilon of each run, and of all runs of a site composed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from client.privacy.accountant import Epsilon, replace_one, spent
from client.privacy.budget_ledger import LedgerEntry


@dataclass(frozen=True)
class StatementLine:
    """A run and its epsilon so far, at the delta of the statement."""

    entry: LedgerEntry
    epsilon: Epsilon


@dataclass(frozen=True)
class SiteStatement:
    """Statement of one site.

    Attributes:
        site: the site.
        lines: its runs, oldest first.
        total: epsilon of all its runs and tables composed, for adding or removing a patient.
        replaced: the same for replacing one patient's data.
        left: the rest of the limit for further runs, at least 0; None without a limit.
    """

    site: str
    lines: tuple[StatementLine, ...]
    total: Epsilon
    replaced: Epsilon
    left: float | None


def make_statement(
    entries: Sequence[LedgerEntry], delta: float, limit: float | None = None
) -> list[SiteStatement]:
    """Compose the runs of a ledger, site by site.

    Args:
        entries: the ledger's runs.
        delta: delta of every epsilon in the statement.
        limit: the site's `epsilon-limit`, where the rest of it is wanted.
    """
    statements = []
    for site in sorted({entry.site for entry in entries}):
        own = [entry for entry in entries if entry.site == site]
        lines = tuple(StatementLine(entry, spent([entry.spent()], delta)) for entry in own)
        history = [entry.spent() for entry in own]
        total, replaced = spent(history, delta), replace_one(history, delta)
        left = None if limit is None else max(0.0, limit - total.prv)
        statements.append(SiteStatement(site, lines, total, replaced, left))
    return statements


def as_json(statements: Sequence[SiteStatement], delta: float) -> dict[str, Any]:
    """Return the statement as JSON values, with every field of the ledger's entries."""
    return {
        "delta": delta,
        "sites": {
            statement.site: {
                "runs": [
                    {**asdict(line.entry), "epsilon": asdict(line.epsilon)}
                    for line in statement.lines
                ],
                "total": asdict(statement.total),
                "replace-one": asdict(statement.replaced),
                "left": statement.left,
            }
            for statement in statements
        },
    }
