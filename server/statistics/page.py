"""Page that compares the sites by their statistics: one self-contained HTML file."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from common.data.statistics.edges import BINS, EDGES, HOURS
from common.data.vitals import VITALS, Vital
from common.files.atomic_io import write_text
from common.reporting.components import Figure, Page, Part, Section, Table, render_page
from common.reporting.phrasing import NO_BREAK, clean_line, counted
from server.statistics.comparison import SiteComparison, compare_sites
from server.statistics.heat_strips import Scale, StripRow, heat_strips
from server.statistics.summary import (
    statistics_headline,
    statistics_tiles,
    statistics_title,
    summary_items,
)
from server.statistics.tables import (
    facts_table,
    group_tables,
    histogram_table,
    measured_table,
    verdict_table,
)
from server.statistics.thresholds import FALSE_FLAG_RATE
from server.statistics.wording import bins_in_words

MOST_TABLE_SITES = 20
"""Of more sites the counts behind the figures are in statistics.json alone."""
MOST_STRIPS = 40
"""Of more sites those that show nothing are left out of a figure."""

_SHARES = Scale(0.05)
_MISSING = Scale(1 / 7)
_VALUES = frozenset({"unit", "part in a unit", "swapped", "median", "other distribution"})
_GAPS = frozenset({"missing", "sparse", "hours"})

_NOTHING_TRAINED = """\
These counts were sent before the first round. Nothing was trained with them, and no verdict binds a
site or the coordinator."""
_READING = f"""\
A site can join if nothing was found that makes its values wrong or too few. Where patients merely
differ, the site can join and has a note. Of pages about sites with equal patients, at most
{100 * FALSE_FLAG_RATE:.0f}{NO_BREAK}% show a difference that rests on chance.
Small sites and suppressed or noisy counts can hide a flaw: that nothing was found does not prove
that nothing is wrong."""
_DISTRIBUTIONS = """\
Each patient is counted once, in the bin of the median of the patient's values. The number to the
right is the range in which the site's median of these is, given what is suppressed or noisy. Sites
with a finding about the values are red and come first."""
_SUPPRESSED = """\
A hatched cell is suppressed: a count that its site does not tell, because it or one beside it is
small. It is not zero. Shares are of all patients with a value, as far as known."""
_HOURS = """\
Share of the patients still in the unit who have no value in the hour, by hour of their first stay.
Dark = missing. The temperature is often measured every four hours only."""


def write_statistics_page(statistics: Mapping[str, Any], path: Path) -> None:
    """Write the page.

    Args:
        statistics: content of `statistics.json`, as `parse_statistics` returns it.
        path: the HTML file.
    """
    write_text(path, render_page(statistics_page(statistics)))


def statistics_page(statistics: Mapping[str, Any]) -> Page:
    """Return the page, for rendering and for an export of its tables; argument as above."""
    comparison = compare_sites(statistics)
    sections = [_summary_section(comparison)]
    if comparison.counts.names:
        sections += [
            _values_section(comparison),
            _missing_section(comparison),
            Section("groups", "Stays, age and sex", [Part(**_tables(group_tables(comparison)))]),
            Section("tables", "The sites' tables", [Part(tables=[facts_table(comparison)])]),
        ]
    created = clean_line(statistics["created"], 40)
    version = clean_line(statistics["fedvitals"], 40)
    sections.append(
        Section(
            "provenance", "Provenance", [Part("", [f"Collected {created} by fedvitals {version}."])]
        )
    )
    return Page(
        title=statistics_title(comparison),
        headline=statistics_headline(comparison),
        tiles=statistics_tiles(comparison),
        sections=sections,
        kicker="federated statistics",
    )


def _summary_section(comparison: SiteComparison) -> Section:
    noisy = [site for site in comparison.counts.sites if site["privacy"]]
    notes = [_READING]
    if noisy:
        notes.append(
            f"{counted(len(noisy), 'site')} added noise to every count: ≈ marks a noisy number, "
            "which may be below zero. A difference that the noise can explain is not reported."
        )
    parts = [Part(items=summary_items(comparison), notes=[_NOTHING_TRAINED])]
    if comparison.verdicts:
        noted = [one for one in comparison.verdicts if one.is_noted]
        every = len(comparison.verdicts) <= MOST_TABLE_SITES
        table = verdict_table(comparison.verdicts)
        parts.append(
            Part(
                "Each site",
                tables=[table] if every else [verdict_table(noted)] if noted else [],
                folded_title="All sites, those of which nothing stands out included",
                folded=[] if every else [table],
                notes=notes,
            )
        )
    return Section("summary", "Summary", parts)


def _values_section(comparison: SiteComparison) -> Section:
    figures = [_histogram_figure(comparison, vital) for vital in VITALS]
    few = len(comparison.counts.names) <= MOST_TABLE_SITES
    part = Part(
        paragraphs=[_DISTRIBUTIONS],
        legend=_SHARES.legend("nobody"),
        figures=[figure for figure in figures if figure],
        folded_title="The counts",
        folded=[histogram_table(comparison, vital) for vital in VITALS] if few else [],
        notes=[_SUPPRESSED],
    )
    return Section("values", "Values of each vital sign", [part])


def _missing_section(comparison: SiteComparison) -> Section:
    figures = [_hours_figure(comparison, vital) for vital in VITALS]
    part = Part(
        paragraphs=[_HOURS],
        legend=_MISSING.legend("none missing, or nobody there"),
        figures=[figure for figure in figures if figure],
        small=True,
    )
    return Section(
        "missing", "Missing values", [part, Part(**_tables([measured_table(comparison)]))]
    )


def _tables(tables: Sequence[Table]) -> dict[str, Any]:
    """Return a part's tables, folded where they are long."""
    if len(tables[0].rows) <= MOST_TABLE_SITES:
        return {"tables": tables}
    return {"folded_title": "All sites", "folded": tables}


def _histogram_figure(comparison: SiteComparison, vital: Vital) -> Figure | None:
    counts = comparison.counts.vitals[vital.name]
    medians = counts.median_bins().tolist()
    flagged = comparison.flagged(vital.name, _VALUES)
    rows = []
    for site, name in enumerate(comparison.counts.names):
        total = max(float(counts.total[site]), float(counts.shown[site]))
        cells = [
            None if hidden else (known / total if total > 0 else math.nan)
            for known, hidden in zip(counts.known[site], counts.hidden[site], strict=True)
        ]
        first, last = medians[site]
        note = "" if (first, last) == (0, BINS - 1) else bins_in_words(vital.name, first, last, "")
        rows.append(StripRow(clean_line(name), cells, note, site in flagged))
    edges = EDGES[vital.name]
    ticks = [(place + 1, f"{edges[place]:g}") for place in range(1, len(edges), 3)]
    return _figure(f"values-{vital.name}", vital, f"{vital.label} in {vital.unit}", rows, ticks)


def _hours_figure(comparison: SiteComparison, vital: Vital) -> Figure | None:
    flagged = comparison.flagged(vital.name, _GAPS)
    rows = []
    for place, (name, site) in enumerate(
        zip(comparison.counts.names, comparison.counts.sites, strict=True)
    ):
        hours = site["missing"][vital.name]
        cells = [
            _missing_share(observed, patients)
            for observed, patients in zip(hours["observed"], hours["patients"], strict=True)
        ]
        rows.append(StripRow(clean_line(name), cells, flagged=place in flagged))
    ticks = [(hour + 0.5, f"{hour}") for hour in range(0, HOURS, 6)]
    return _figure(f"missing-{vital.name}", vital, f"{vital.label}, by hour", rows, ticks)


def _missing_share(observed: int | None, patients: int | None) -> float | None:
    if observed is None or patients is None:
        return None
    # Noisy numbers may contradict each other.
    return float(np.clip(1 - observed / patients, 0, 1)) if patients > 0 else math.nan


def _figure(
    name: str,
    vital: Vital,
    heading: str,
    rows: Sequence[StripRow],
    ticks: Sequence[tuple[float, str]],
) -> Figure | None:
    """Return a figure of the sites, flagged ones first; of many only those that show something."""
    is_missing = name.startswith("missing")
    silent = [row for row in rows if all(cell is None for cell in row.cells)]
    shown = rows
    caption = ""
    if len(rows) > MOST_STRIPS and silent:
        shown = [row for row in rows if any(cell is not None for cell in row.cells)]
        caption = f"{counted(len(silent), 'site')} with all counts suppressed left out"
    if not shown:
        return None
    shown = sorted(shown, key=lambda row: not row.flagged)
    what = "Patients without a value" if is_missing else "Distribution of the patients' medians"
    drawing = heat_strips(
        name,
        f"{what} at {counted(len(shown), 'site')}: {vital.label.lower()}",
        f"{len(silent)} of {len(rows)} sites have all counts suppressed. "
        f"{sum(row.flagged for row in rows)} have a finding, which the summary's table describes.",
        shown,
        ticks,
        _MISSING if is_missing else _SHARES,
    )
    return Figure(heading, caption, drawing)
