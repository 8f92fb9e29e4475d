"""What a check found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Level = Literal["OK", "WARN", "FAIL"]


@dataclass(frozen=True)
class CheckResult:
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


def ok(code: str, what: str) -> CheckResult:
    """Nothing is to be done."""
    return CheckResult(code, "OK", what)


def warn(code: str, what: str, remedy: str) -> CheckResult:
    """The node runs, but somebody should look."""
    return CheckResult(code, "WARN", what, remedy)


def fail(code: str, what: str, remedy: str) -> CheckResult:
    """It will not work."""
    return CheckResult(code, "FAIL", what, remedy)
