"""What a check found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Level = Literal["OK", "WARN", "FAIL"]


@dataclass(frozen=True)
class Finding:
    """One result.

    Attributes:
        code: which check, the same in every release, for scripts and for the runbooks.
        level: OK; WARN: the node runs, but somebody should look; FAIL: it will not work.
        what: what was found.
        remedy: what to do; empty where nothing is to be done.
    """

    code: str
    level: Level
    what: str
    remedy: str = ""


def ok(code: str, what: str) -> Finding:
    """Nothing is to be done."""
    return Finding(code, "OK", what)


def warn(code: str, what: str, remedy: str) -> Finding:
    """The node runs, but somebody should look."""
    return Finding(code, "WARN", what, remedy)


def fail(code: str, what: str, remedy: str) -> Finding:
    """It will not work."""
    return Finding(code, "FAIL", what, remedy)
