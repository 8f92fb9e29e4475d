"""Names and texts that users and sites give, checked and made safe to print."""

from __future__ import annotations

import re
from collections.abc import Collection
from difflib import get_close_matches

from common.errors import UsageError

NAME_PATTERN = r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"
"""Regular expression of a site's or an operator's name: safe in a path, a report and a log line."""

_NAME = re.compile(NAME_PATTERN)
_DIGITS = "0123456789"


def check_name(kind: str, given: str, known: Collection[str]) -> str:
    """Return a name if it is a known one.

    Args:
        kind: what is named, for the message, e.g. ``vital``.
        given: the name as the user wrote it.
        known: all existing names.

    Returns:
        `given`.

    Raises:
        UsageError: names the nearest known name, if one is near, and all known ones.
    """
    if given in known:
        return given
    near = get_close_matches(given.lower(), known, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise UsageError(f"unknown {kind} {given!r}; {hint}known are: {', '.join(known)}")


def is_site_name(name: object) -> bool:
    """Return whether a value may name a site: text that matches `NAME_PATTERN`."""
    return isinstance(name, str) and _NAME.fullmatch(name) is not None


def natural_order(name: str) -> list[tuple[int, int, str]]:
    """Return a key that sorts names with numbers as a reader does: hospital-9 before hospital-73.

    For display alone: a run's own order, on which its bytes depend, is that of the characters.
    """
    parts = re.split(r"([0-9]+)", name)
    numbered = [
        (0, int(part), "") if part[0] in _DIGITS else (1, 0, part) for part in parts if part
    ]
    return [*numbered, (2, 0, name)]


def check_site_name(name: str) -> str:
    """Return a name that a site may have.

    Raises:
        UsageError: the name does not match `NAME_PATTERN`.
    """
    if not is_site_name(name):
        raise UsageError(
            "a site's name has 1 to 64 letters, digits, '.', '_' and '-', the first a letter or a "
            f"digit, got {name!r}"
        )
    return name


def printable(text: object, longest: int = 200) -> str:
    """Return foreign text as one printable line, safe in a terminal and a log.

    Args:
        text: anything; its `str` is used.
        longest: the most characters of it that are kept.

    Returns:
        At most `longest` characters, the unprintable ones (line breaks, control characters,
        direction marks) replaced by ``?``.
    """
    return "".join(c if c.isprintable() else "?" for c in str(text)[:longest])
