"""Names that a user types, checked against the ones that exist."""

from __future__ import annotations

from collections.abc import Collection
from difflib import get_close_matches

from common.errors import UsageError


def check_name(kind: str, given: str, known: Collection[str]) -> str:
    """Return a name that is known.

    Args:
        kind: what is named, as the message calls it, e.g. ``vital``.
        given: the name as the user wrote it.
        known: all names that exist.

    Returns:
        `given`.

    Raises:
        UsageError: naming the nearest known name, if one is near, and all that exist.
    """
    if given in known:
        return given
    near = get_close_matches(given.lower(), known, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise UsageError(f"unknown {kind} {given!r}; {hint}known are: {', '.join(known)}")
