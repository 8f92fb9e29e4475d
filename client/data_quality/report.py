"""Report of `client check`: size, observed values, splits and problems of a site table."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from client.data_quality.checks import find_all
from client.data_quality.finding import SEVERITIES, QualityFinding, render_finding
from client.site_split.split_findings import split_findings
from common.config.run_config import WindowConfig
from common.console import narrow_table
from common.data.characteristics import characterise
from common.data.cohort_folder import INGEST_FILE, read_cohort_record, site_table_paths
from common.data.site_table import SiteTable, read_site_table
from common.data.splits import SPLITS
from common.data.vitals import VITAL_NAMES, VITALS
from common.data.windows import WindowSettings, make_windows
from common.files.hashing import file_sha256
from common.forecasting.reference_ranges import EXPECTED
from common.reporting.characteristics import characteristics_page


@dataclass(frozen=True)
class VitalNumbers:
    """Distribution of one vital sign of a site.

    Attributes:
        observed: share of steps with a value.
        median: of all values; None if there are none, as `low` and `high`.
        low: 1st percentile.
        high: 99th percentile.
    """

    observed: float
    median: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class SplitNumbers:
    """Size of one split of a site; `windows` with default settings."""

    patients: int
    stays: int
    windows: int


@dataclass(frozen=True)
class CheckReport:
    """Result of a check of one site table.

    Attributes:
        site, source, rule, step_minutes: the table's description.
        patients, stays, hours: its size.
        splits: sizes by split.
        vitals: distributions by vital sign.
        findings: problems found, the worst first.
        characteristics: table 1, see `common.data.characteristics`.
    """

    site: str
    source: str
    rule: str
    step_minutes: int
    patients: int
    stays: int
    hours: float
    splits: dict[str, SplitNumbers]
    vitals: dict[str, VitalNumbers]
    findings: tuple[QualityFinding, ...]
    characteristics: dict[str, Any] = field(default_factory=dict)

    @property
    def can_train(self) -> bool:
        """True without a finding of severity `error`."""
        return all(finding.severity != "error" for finding in self.findings)

    def to_json(self) -> dict[str, Any]:
        """Return the report as plain values."""
        return {**asdict(self), "can_train": self.can_train}


def check_folder(folder: Path) -> list[CheckReport]:
    """Check every site table of a cohort folder, or a single table file.

    Raises:
        CohortError: the folder has no site table, or its ingest.json cannot be read.
        SiteTableError: a table violates the schema.
    """
    if folder.is_file():
        return [_check_table(folder, None, [])]
    paths = site_table_paths(folder)
    # A cohort of `simulation prepare` has no ingest.json.
    has_record = (folder / INGEST_FILE).is_file()
    record = read_cohort_record(folder, INGEST_FILE) if has_record else None
    leftovers = sorted(folder.absolute().parent.glob(f".{folder.absolute().name}.*.partial"))
    return [_check_table(path, record, leftovers) for path in paths.values()]


def _check_table(path: Path, record: dict[str, Any] | None, leftovers: list[Path]) -> CheckReport:
    table = read_site_table(path)
    if record is not None:
        is_same = file_sha256(path) == record["table"]["sha256"]
        record = {**record, "is_same_table": is_same}
    frame = table.frame
    splits = {split: _split(table, split) for split in SPLITS}
    vitals = {name: _vital(frame[name].to_numpy()) for name in VITAL_NAMES}
    findings = find_all(
        frame,
        {split: numbers.patients for split, numbers in splits.items()},
        {split: numbers.windows for split, numbers in splits.items()},
        table.info.step_minutes,
        record,
        leftovers,
    )
    per_split = {split: numbers.patients for split, numbers in splits.items()}
    findings += split_findings((record or {}).get("split"), per_split)
    findings.sort(key=lambda finding: SEVERITIES.index(finding.severity))
    return CheckReport(
        site=table.info.site,
        source=table.info.source,
        rule=table.info.cohort_rule,
        step_minutes=table.info.step_minutes,
        patients=int(frame["patient_id"].nunique()),
        stays=int((frame["step"] == 0).sum()),
        hours=len(frame) * table.info.step_minutes / 60,
        splits=splits,
        vitals=vitals,
        findings=tuple(findings),
        characteristics=_characteristics(table, record),
    )


def _characteristics(table: SiteTable, record: dict[str, Any] | None) -> dict[str, Any]:
    """Return table 1: the ingest's, which knows age and sex, or what the table itself tells."""
    if record is not None and record["is_same_table"] and "characteristics" in record:
        found: dict[str, Any] = record["characteristics"]
        return found
    return characterise({table.info.site: table}, windows=WindowSettings())


def _split(table: SiteTable, split: str) -> SplitNumbers:
    rows = table.frame[table.frame["split"] == split]
    settings = WindowConfig().settings()
    # One vital at a time: only the count is needed, and all windows together can be gigabytes.
    windows = sum(len(make_windows(table, split, settings, (name,))) for name in VITAL_NAMES)
    return SplitNumbers(rows["patient_id"].nunique(), int((rows["step"] == 0).sum()), windows)


def _vital(values: np.ndarray[Any, np.dtype[np.float32]]) -> VitalNumbers:
    observed = values[~np.isnan(values)]
    if not len(observed):
        return VitalNumbers(0.0, None, None, None)
    low, median, high = (round(float(v), 2) for v in np.percentile(observed, (1, 50, 99)))
    return VitalNumbers(round(len(observed) / len(values), 4), median, low, high)


def render_check(report: CheckReport, width: int = 80) -> RenderableType:
    """Return a report as one page for a console of a width."""
    return Group(*_parts(report, width))


def _parts(report: CheckReport, width: int) -> Iterator[RenderableType]:
    yield Text(f"{report.site} (source: {report.source})", style="bold")
    yield Text(f"Rule: {report.rule}")
    yield Text(
        f"{report.patients:,} patients, {report.stays:,} stays, {report.hours:,.0f} hours in steps "
        f"of {report.step_minutes} minutes\n"
    )
    yield _vitals_table(report)
    yield _splits_table(report)
    yield from characteristics_page(report.characteristics, width)
    yield Text()
    if not report.findings:
        yield Text("No problem found.", style="green")
    for finding in report.findings:
        yield render_finding(finding)
    if not report.can_train:
        yield Text("\nThis table cannot be trained on.", style="bold red")


def _vitals_table(report: CheckReport) -> Table:
    numbers = ("observed", "median", "1 %", "99 %", "usual median")
    table = narrow_table("Vital signs", ["vital sign", "unit"], numbers)
    for vital in VITALS:
        found, expected = report.vitals[vital.name], EXPECTED[vital.name]
        values = (found.median, found.low, found.high)
        table.add_row(
            vital.label,
            vital.unit,
            f"{100 * found.observed:.1f} %",
            *("-" if value is None else f"{value:.1f}" for value in values),
            f"{expected.median_low:g} to {expected.median_high:g}",
        )
    return table


def _splits_table(report: CheckReport) -> Table:
    numbers = ("patients", "stays", "windows")
    table = narrow_table("Splits (windows by default settings)", ["split"], numbers)
    for split, counts in report.splits.items():
        table.add_row(split, f"{counts.patients:,}", f"{counts.stays:,}", f"{counts.windows:,}")
    return table
