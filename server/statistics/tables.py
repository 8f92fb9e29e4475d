"""Tables of the comparison, for the page, the console and Markdown."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from markupsafe import Markup

from common.data.statistics.edges import AGE_NAMES, SEX_NAMES, STAY_BANDS, bin_labels
from common.data.statistics.reply import NOT_RECORDED
from common.data.vitals import VITALS, Vital
from common.reporting.components import Row, Table, raw_html
from common.reporting.markdown import escape_markdown, table_in_markdown
from common.reporting.phrasing import MINUS, NO_BREAK, NOTHING, clean_line, duration
from server.statistics.comparison import SiteComparison, SiteVerdict, Verdict, compare_sites
from server.statistics.findings.finding import Level, SiteFinding
from server.statistics.summary import statistics_headline

SUPPRESSED = "suppressed"
_LONGEST_TEXT = 80
_LONGEST_CELL = 5000


def verdict_table(verdicts: Sequence[SiteVerdict], *, html: bool = True) -> Table:
    """Return a row per site: its verdict, its patients, and its findings with what to do.

    Args:
        verdicts: of the sites to list, in their order.
        html: whether each finding begins a line of its own on a page.
    """
    rows = [
        Row(one.name, [one.verdict.value, _patients(one), _reasons(one, html=html)])
        for one in verdicts
    ]
    header = ["Site", "Verdict", "Patients", "What was found, and what to do"]
    return Table("Verdict for each site, the most urgent first", header, rows, text=True)


def facts_table(comparison: SiteComparison) -> Table:
    """Return how each site's table is made, and what its counts are protected by."""
    rows = []
    for one in _with_statistics(comparison):
        site = one.site or {}
        privacy = site["privacy"]
        rows.append(
            Row(
                one.name,
                [
                    count(site["patients"], site),
                    NOTHING if privacy else count(site["stays"], site),
                    duration(site["step_minutes"]),
                    clean_line(site["source"], _LONGEST_TEXT),
                    clean_line(site["rule"], _LONGEST_TEXT),
                    f"noise, epsilon {privacy['epsilon']:g}"
                    if privacy
                    else f"none below {site['threshold']}",
                ],
            )
        )
    header = ["Site", "Patients", "Stays", "Step", "Source", "Rule", "Counts"]
    return Table("How each site's table is made", header, rows, text=True)


def group_tables(comparison: SiteComparison) -> list[Table]:
    """Return the tables of stay lengths, age bands and sex."""
    sexes = [name.capitalize() for name in SEX_NAMES]
    return [
        _counts_table(
            comparison, "Length of the first stay", list(STAY_BANDS), lambda s: s["stay_hours"]
        ),
        _counts_table(
            comparison, "Age in years", list(AGE_NAMES), lambda site: _recorded(site["age"])
        ),
        _counts_table(comparison, "Sex", sexes, lambda site: _recorded(site["sex"])),
    ]


def histogram_table(comparison: SiteComparison, vital: Vital) -> Table:
    """Return the counts behind a vital's strips."""
    return _counts_table(
        comparison,
        f"{vital.label}: patients by the median of their values",
        [label.replace(">=", "≥ ").replace("<", "< ") for label in bin_labels(vital.name)],
        lambda site: site["vitals"][vital.name]["counts"],
        unit=vital.unit,
    )


def measured_table(comparison: SiteComparison) -> Table:
    """Return the patients of each site with at least one value of each vital."""
    return _counts_table(
        comparison,
        "Patients with at least one value",
        [vital.short for vital in VITALS],
        lambda site: [site["vitals"][vital.name]["patients"] for vital in VITALS],
    )


def statistics_in_markdown(statistics: Mapping[str, Any]) -> str:
    """Return summary and verdicts of `statistics.json` as a Markdown document."""
    comparison = compare_sites(statistics)
    table = verdict_table(comparison.verdicts, html=False)
    rows = [
        [escape_markdown(row.label), *(escape_markdown(cell, _LONGEST_CELL) for cell in row.cells)]
        for row in table.rows
    ]
    return f"{statistics_headline(comparison)}\n\n{table_in_markdown(table.header, rows)}\n"


def count(value: int | None, site: Mapping[str, Any]) -> str:
    """Return a count as text: suppressed, exact, or marked as noisy."""
    if value is None:
        return SUPPRESSED
    text = f"{value:,}".replace("-", MINUS)
    return f"≈{NO_BREAK}{text}" if site["privacy"] else text


def _counts_table(
    comparison: SiteComparison,
    caption: str,
    labels: Sequence[str],
    counts: Callable[[Mapping[str, Any]], Sequence[int | None] | None],
    unit: str = "",
) -> Table:
    rows = []
    for one in _with_statistics(comparison):
        site = one.site or {}
        values = counts(site)
        cells = (
            [NOT_RECORDED, *[NOTHING] * (len(labels) - 1)]
            if values is None
            else [_with_share(value, site) for value in values]
        )
        rows.append(Row(one.name, cells))
    return Table(caption, [f"Site, {unit}" if unit else "Site", *labels], rows)


def _with_share(value: int | None, site: Mapping[str, Any]) -> str | Markup:
    """Return a count with its share of the site's patients, which noise would make a guess."""
    text, whole = count(value, site), site["patients"]
    if value is None or site["privacy"] or not whole:
        return text
    return raw_html(
        '{} <span class="interval">{}</span>', text, f"{100 * value / whole:.0f}{NO_BREAK}%"
    )


def _recorded(counts: Any) -> Sequence[int | None] | None:
    if counts == NOT_RECORDED:
        return None
    return list(counts.values()) if isinstance(counts, dict) else list(counts)


def _with_statistics(comparison: SiteComparison) -> list[SiteVerdict]:
    return sorted((one for one in comparison.verdicts if one.site), key=lambda one: one.name)


def _patients(one: SiteVerdict) -> str:
    return NOTHING if one.site is None else count(one.site["patients"], one.site)


def _reasons(one: SiteVerdict, *, html: bool) -> str | Markup:
    if one.verdict is Verdict.REFUSED:
        return one.refusal or "no reason given"
    texts = [_finding_text(finding) for finding in one.findings] or ["Nothing stands out"]
    return raw_html("<br>").join(texts) if html else " ".join(texts)


def _finding_text(finding: SiteFinding) -> str:
    remedy = f" {finding.remedy}." if finding.remedy else ""
    mark = "" if finding.level in (Level.MEND, Level.FEW) else "Note: "
    return f"{mark}{finding.text}.{remedy}"
