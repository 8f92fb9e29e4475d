"""The report of a check on one page of the console."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from client.data_quality.reference_ranges import EXPECTED
from client.data_quality.report import CheckReport
from common.console import narrow_table
from common.data.site_table import VITALS

_STYLES = {"error": "bold red", "warning": "yellow", "note": "cyan"}


def page(report: CheckReport) -> RenderableType:
    """Draw a report."""
    return Group(*_parts(report))


def _parts(report: CheckReport) -> Iterator[RenderableType]:
    yield Text(f"{report.site} (source: {report.source})", style="bold")
    yield Text(f"Rule: {report.rule}")
    yield Text(
        f"{report.patients:,} patients, {report.stays:,} stays, {report.hours:,.0f} hours in steps "
        f"of {report.step_minutes} minutes\n"
    )
    yield _vitals(report)
    yield _splits(report)
    if not report.findings:
        yield Text("Nothing looks wrong.", style="green")
    for finding in report.findings:
        line = Text(f"{finding.severity}: ", style=_STYLES[finding.severity])
        line.append(finding.what, style="default not bold")
        yield line
        yield Padding(Text(finding.remedy, style="dim"), (0, 0, 0, 4))
    if not report.can_train:
        yield Text("\nThis table cannot be trained on.", style="bold red")


def _vitals(report: CheckReport) -> Table:
    numbers = ("observed", "median", "1 %", "99 %", "usual median")
    table = narrow_table("Vital signs", ["vital sign", "unit"], numbers)
    for vital in VITALS:
        seen, expected = report.vitals[vital.name], EXPECTED[vital.name]
        values = (seen.median, seen.low, seen.high)
        table.add_row(
            vital.label,
            vital.unit,
            f"{100 * seen.observed:.1f} %",
            *("-" if value is None else f"{value:.1f}" for value in values),
            f"{expected.median_low:g} to {expected.median_high:g}",
        )
    return table


def _splits(report: CheckReport) -> Table:
    numbers = ("patients", "stays", "windows")
    table = narrow_table("Splits (windows by default settings)", ["split"], numbers)
    for split, counts in report.splits.items():
        table.add_row(split, f"{counts.patients:,}", f"{counts.stays:,}", f"{counts.windows:,}")
    return table
