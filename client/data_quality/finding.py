"""A problem of a site table with its remedy, and how shares of it are written."""

from __future__ import annotations

from dataclasses import dataclass

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.text import Text

SEVERITIES = ("error", "warning", "note")

_STYLES = {"error": "bold red", "warning": "yellow", "note": "cyan"}


@dataclass(frozen=True)
class QualityFinding:
    """One problem of a site table.

    Attributes:
        severity: one of `SEVERITIES`.
        code: its name, for scripts.
        what: description, with the number found.
        remedy: what to do.
    """

    severity: str
    code: str
    what: str
    remedy: str


def share_text(share: float) -> str:
    """Return a share as a percentage of two digits."""
    return f"{100 * share:.2g} %" if share < 0.1 else f"{100 * share:.0f} %"


def render_finding(finding: QualityFinding) -> RenderableType:
    """Return a problem for the console: what it is, and below it what to do."""
    line = Text(f"{finding.severity}: ", style=_STYLES[finding.severity])
    line.append(finding.what, style="default not bold")
    return Group(line, Padding(Text(finding.remedy, style="dim"), (0, 0, 0, 4)))
