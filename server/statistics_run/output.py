"""Output of a run of statistics: statistics.json, its page, and a table for the console."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Table

from common.console import narrow_table
from common.data.statistics.reply import VERSION, parse_statistics
from common.data.vitals import VITALS
from common.errors import StatisticsError
from common.files.atomic_io import write_text
from common.files.output_folder import check_output
from common.reporting.phrasing import NOTHING

STATISTICS_FILE = "statistics.json"
PAGE_FILE = "statistics.html"
SUPPRESSED = "*"
"""Mark of a suppressed count in the table."""


def check_statistics_folder(folder: Path) -> None:
    """Check that a folder can take the output, before a site is asked.

    Raises:
        StatisticsError: it has files of another kind, or cannot be written.
    """
    check_output(folder, (STATISTICS_FILE, PAGE_FILE), error=StatisticsError)


def statistics_stamp(folder: Path) -> tuple[int, int] | None:
    """Return what changes when statistics.json is written anew; None while there is none."""
    try:
        status = (folder / STATISTICS_FILE).stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns


def write_statistics(folder: Path, sites: Mapping[str, Any], refused: Mapping[str, str]) -> None:
    """Write statistics.json.

    Args:
        folder: the output folder, created if absent.
        sites: valid statistics by site.
        refused: reason by name of a site without.

    Raises:
        StatisticsError: the folder cannot be written.
    """
    record = {
        "version": VERSION,
        "fedvitals": version("fedvitals"),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "sites": dict(sorted(sites.items())),
        "refused": dict(sorted(refused.items())),
    }
    text = json.dumps(record, indent=1, ensure_ascii=False) + "\n"
    parse_statistics(text)  # what is written can be read
    try:
        write_text(folder / STATISTICS_FILE, text)
    except OSError as problem:
        raise _unwritable(folder, problem) from problem


def read_statistics(folder: Path) -> dict[str, Any]:
    """Read and validate statistics.json of a folder.

    Raises:
        StatisticsError: there is none, or it is not valid.
    """
    path = folder / STATISTICS_FILE
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as problem:
        raise StatisticsError(f"{path} cannot be read: {problem}") from problem
    return parse_statistics(text)


def write_page(folder: Path, statistics: Mapping[str, Any]) -> Path:
    """Write the page that compares the sites; return its path."""
    from server.statistics.page import write_statistics_page

    try:
        write_statistics_page(statistics, folder / PAGE_FILE)
    except OSError as problem:
        raise _unwritable(folder, problem) from problem
    return folder / PAGE_FILE


def statistics_table(statistics: Mapping[str, Any]) -> Table:
    """Return a console table of the sites: patients, stays, and patients with each vital sign."""
    table = narrow_table(
        f"Patients by site, and those with a value ({SUPPRESSED}: suppressed)",
        ["site", "counts"],
        ["patients", "stays", *(vital.short for vital in VITALS)],
    )
    for name, site in statistics["sites"].items():
        privacy = site["privacy"]
        kind = f"from {site['threshold']}" if privacy is None else f"ε {privacy['epsilon']:g}"
        vitals = (site["vitals"][vital.name]["patients"] for vital in VITALS)
        stays = _shown(site["stays"]) if privacy is None else NOTHING  # not sent under noise
        cells = (_shown(site["patients"]), stays, *(_shown(count) for count in vitals))
        table.add_row(escape(name), kind, *cells)
    return table


def _unwritable(folder: Path, problem: OSError) -> StatisticsError:
    reason = problem.strerror or problem
    return StatisticsError(f"{folder} cannot be written: {reason}; give another --out")


def _shown(count: int | None) -> str:
    return SUPPRESSED if count is None else str(count)
