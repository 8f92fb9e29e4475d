"""Text and columns of a query, whatever its database."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from typing import Any

from common.errors import UsageError


def whole(query: str) -> str:
    """Return a query without the semicolon at its end, to be used within another."""
    return query.strip().rstrip(";").rstrip()


def refuse_twice(names: Sequence[str]) -> None:
    """Refuse columns that differ only in case.

    Raises:
        UsageError: names one of them.
    """
    lower = [name.lower() for name in names]
    twice = sorted({name for name in lower if lower.count(name) > 1})
    if twice:
        raise UsageError(f"the query has the column {twice[0]!r} twice; rename one with AS")


def query_digest(query: str, rows: int) -> dict[str, Any]:
    """Return the digest of a query's text and the number of its rows."""
    return {"query_sha256": sha256(query.encode()).hexdigest(), "rows": rows}
