"""Reasons to drop a measurement, in the order in which they are counted."""

from __future__ import annotations

DROP_REASONS: tuple[str, ...] = (
    "duplicate",
    "left out by a drop rule",
    "no patient",
    "unknown encounter",
    "no time",
    "no number",
    "unknown unit",
    "ambiguous unit",
    "impossible value",
    "ambiguous hour",
    "skipped hour",
    "outside every stay",
    "in a stay left out",
)
"""Reasons to drop a measurement; the first that applies, in this order, is counted. Of several
equal ones (same patient, stay, time, code and value) all but one are duplicates, if each can be
read: a row that lacks a patient, a time or a possible value is counted under that reason."""

UNREADABLE: tuple[str, ...] = DROP_REASONS[1 : DROP_REASONS.index("ambiguous hour")]
"""Reasons that a row has by itself, before it is compared with others."""


def reason(name: str) -> int:
    """Return the index of a reason."""
    return DROP_REASONS.index(name)
