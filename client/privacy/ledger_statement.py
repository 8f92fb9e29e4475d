"""The ledger as a statement: what each run spent, and all of them together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from client.privacy.accountant import Epsilon, replace_one, spent
from client.privacy.budget_ledger import LedgerEntry


@dataclass(frozen=True)
class Line:
    """A run and what it has spent so far, at the delta of the statement."""

    record: LedgerEntry
    epsilon: Epsilon


@dataclass(frozen=True)
class SiteStatement:
    """A site's runs and their sum.

    Attributes:
        site: the site.
        lines: its runs, the oldest first.
        total: of all its runs and tables together, composed.
        replaced: the same where one patient's data are replaced, not added or removed.
        left: what the limit leaves for further runs, never below 0; None without a limit.
    """

    site: str
    lines: tuple[Line, ...]
    total: Epsilon
    replaced: Epsilon
    left: float | None


def make_statement(
    records: Sequence[LedgerEntry], delta: float, limit: float | None = None
) -> list[SiteStatement]:
    """Compose what the ledger holds, site by site.

    Args:
        records: the ledger's runs.
        delta: the delta of every epsilon in it.
        limit: the site's `epsilon-limit`, if it is to be compared.
    """
    statements = []
    for site in sorted({record.site for record in records}):
        own = [record for record in records if record.site == site]
        lines = tuple(Line(record, spent([record.spent()], delta)) for record in own)
        history = [record.spent() for record in own]
        total, replaced = spent(history, delta), replace_one(history, delta)
        left = None if limit is None else max(0.0, limit - total.prv)
        statements.append(SiteStatement(site, lines, total, replaced, left))
    return statements


def as_json(statements: Sequence[SiteStatement], delta: float) -> dict[str, Any]:
    """Return the statement for another program, with everything that the ledger holds."""
    return {
        "delta": delta,
        "sites": {
            statement.site: {
                "runs": [
                    {**asdict(line.record), "epsilon": asdict(line.epsilon)}
                    for line in statement.lines
                ],
                "total": asdict(statement.total),
                "replace-one": asdict(statement.replaced),
                "left": statement.left,
            }
            for statement in statements
        },
    }
