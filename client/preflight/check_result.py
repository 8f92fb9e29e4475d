"""Result of a preflight check."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Level = Literal["OK", "WARN", "FAIL"]


@dataclass(frozen=True)
class CheckResult:
    """Result of one check.

    Attributes:
        code: name of the check, the same in every release, for scripts and runbooks.
        level: OK; WARN: the node runs, but somebody should look; FAIL: it will not work.
        what: what was found.
        remedy: what to do; empty for nothing.
    """

    code: str
    level: Level
    what: str
    remedy: str = ""


def ok(code: str, what: str) -> CheckResult:
    """Return a result that needs no action."""
    return CheckResult(code, "OK", what)


def warn(code: str, what: str, remedy: str) -> CheckResult:
    """Return a result with which the node runs, but that somebody should look at."""
    return CheckResult(code, "WARN", what, remedy)


def fail(code: str, what: str, remedy: str) -> CheckResult:
    """Return a result with which the node will not work."""
    return CheckResult(code, "FAIL", what, remedy)
