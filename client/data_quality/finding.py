"""A problem of a site table with its remedy, and how shares of it are written."""

from __future__ import annotations

from dataclasses import dataclass

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.text import Text

SEVERITIES = ("error", "warning", "note")

_STYLES = {"error": "bold red", "warning": "yellow", "note": "cyan"}


@dataclass(frozen=True)
class ConcernedStays:
    """Numbers of a problem that some stays have, with one of them.

    Attributes:
        stays: the number of stays concerned.
        of: the number of stays that it was looked for in.
        value_count: the number of values concerned.
        example: the stay's id as the site table has it, hashed where its ids are; "" if the stay
            is not in the table.
        row: the number of a row concerned, from 1; 0 if unknown.
    """

    stays: int
    of: int
    value_count: int
    example: str
    row: int = 0


@dataclass(frozen=True)
class QualityFinding:
    """One problem of a site table.

    Attributes:
        severity: one of `SEVERITIES`.
        code: its name, for scripts.
        what: description, with the number found.
        remedy: what to do.
        concerned: its numbers, if it is one of some stays.
    """

    severity: str
    code: str
    what: str
    remedy: str
    concerned: ConcernedStays | None = None


def share_text(share: float) -> str:
    """Return a share as a percentage of two digits."""
    return f"{100 * share:.2g} %" if share < 0.1 else f"{100 * share:.0f} %"


def render_finding(finding: QualityFinding) -> RenderableType:
    """Return a problem for the console: what it is, and below it what to do."""
    line = Text(f"{finding.severity}: ", style=_STYLES[finding.severity])
    line.append(finding.what, style="default not bold")
    return Group(line, Padding(Text(finding.remedy, style="dim"), (0, 0, 0, 4)))
