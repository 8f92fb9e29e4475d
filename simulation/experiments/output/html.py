"""Output folder of an experiment: CSV and Markdown tables, figures, and the HTML page."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from common.data.cohort_folder import read_provenance
from common.data.vitals import VITALS
from common.evaluation.bootstrap import Interval
from common.evaluation.metrics import METRICS
from common.files.atomic_io import write_text
from common.reporting.cells import NumberCell, bracketed
from common.reporting.components import (
    Figure,
    Page,
    Part,
    Row,
    Section,
    Table,
    difference,
    raw_html,
    render_page,
)
from common.reporting.export.export import export_page
from common.reporting.phrasing import VITAL_LABELS, clean_line, sources_in_words
from common.reporting.svg import differences_figure
from simulation.experiments.analysis.analysis import Analysis
from simulation.experiments.analysis.statements import (
    SUMMARY_METRICS,
    cost_texts,
    seed_range,
)
from simulation.experiments.experiment import Experiment, StudySummary
from simulation.experiments.output.csv import write_tables
from simulation.experiments.output.figures import standalone
from simulation.experiments.output.markdown import TABLE_FILE, markdown_table

PAGE_FILE = "index.html"
_DIGITS = {"wql": 4}
_NOTES = (
    "Every model forecasts the same windows of the same test patients, who were not used for "
    "training or for the choice of a round.",
    "Differences are relative and, where no vital sign is named, the unweighted mean over the "
    "vital signs. In brackets: 95 % intervals of the mean over the seeds; patients are resampled, "
    "the training is not repeated, so that the intervals do not cover other seeds. The range gives "
    "the lowest and the highest seed.",
    "WQL = weighted quantile loss, MAE = mean absolute error of the median; lower is better.",
)


def write_experiment(
    folder: Path,
    experiment: Experiment,
    analysis: Analysis,
    summary: StudySummary,
    command: str,
    export: Path | None = None,
) -> Path:
    """Write the CSV files, table.md, the figures and index.html; return the page's path.

    Args:
        folder: the experiment's own folder.
        experiment: the experiment.
        analysis: the results of its cells.
        summary: the head of the page.
        command: the command that repeats the experiment.
        export: folder for the page's tables and figures as files; None for none.
    """
    write_tables(folder, analysis)
    findings = "\n".join(f"- {finding}" for finding in summary.findings)
    paragraphs = [summary.headline, *summary.warnings, findings]
    write_text(folder / TABLE_FILE, markdown_table(analysis, paragraphs, command))
    figures = [*_difference_figures(analysis), *summary.figures]
    for name, figure in figures:
        write_text(folder / f"{name}.svg", standalone(str(figure.svg)))
    parts = [Part(paragraphs=[experiment.question, *summary.findings], warnings=summary.warnings)]
    page = Page(
        kicker=_kicker(analysis),
        title=experiment.title,
        headline=summary.headline,
        tiles=summary.tiles,
        sections=[
            Section("finding", "Findings", parts),
            _arms_section(analysis, [figure for _, figure in figures]),
            *summary.sections,
            _sites_section(analysis),
            _vitals_section(analysis),
            _how_section(experiment, analysis, command),
        ],
    )
    write_text(folder / PAGE_FILE, render_page(page))
    if export is not None:
        export_page(page, export)
    return folder / PAGE_FILE


def _kicker(analysis: Analysis) -> str:
    """Return the kind of page, with the source of the data if the cohort's record names it."""
    data = next(iter(analysis.arms.values())).cell.config.data
    cohort = read_provenance(Path(data)) if data else None
    source = sources_in_words([cohort["source"]]) if cohort else ""
    return f"experiment on {source}" if source else "experiment"


def _difference_figures(analysis: Analysis) -> list[tuple[str, Figure]]:
    reference = analysis.references[0]
    figures = []
    for metric in SUMMARY_METRICS:
        label = METRICS[metric].label
        rows = {
            clean_line(arm): analysis.difference(arm, reference, metric).to_json()
            for arm in analysis.arms
            if arm != reference
        }
        if rows:
            figure = Figure(
                f"{label} relative to {reference}",
                "Mean over vital signs and seeds with the 95 % interval over patients; left of "
                "zero is better.",
                raw_html(differences_figure(rows, label, reference)),
            )
            figures.append((f"differences-{metric}", figure))
    return figures


def _arms_section(analysis: Analysis, figures: Sequence[Figure]) -> Section:
    tables = [_difference_table(analysis, reference) for reference in analysis.references]
    header = ["Arm", "Seeds", "Trained numbers", "Exchanged", "Seconds of training"]
    rows = [
        Row(clean_line(name), [str(len(arm.results)), *cost_texts(arm)])
        for name, arm in analysis.arms.items()
    ]
    tables.append(Table("Cost, mean over seeds", header, rows))
    return Section("arms", "All arms", [Part(figures=figures), Part(tables=tables)])


def _difference_table(analysis: Analysis, reference: str) -> Table:
    header = ["Arm", *(METRICS[metric].label for metric in SUMMARY_METRICS)]
    header += [f"{METRICS[metric].label}, range of seeds" for metric in SUMMARY_METRICS]
    rows = [
        Row(
            clean_line(arm),
            [
                *(
                    difference(analysis.difference(arm, reference, metric).to_json())
                    for metric in SUMMARY_METRICS
                ),
                *(seed_range(analysis, arm, reference, metric) for metric in SUMMARY_METRICS),
            ],
        )
        for arm in analysis.arms
        if arm != reference
    ]
    return Table(f"Relative to {reference}, all sites' test patients together", header, rows)


def _sites_section(analysis: Analysis) -> Section:
    reference = analysis.references[0]
    scopes = list(analysis.bands) or analysis.sites
    what = "group of sites" if analysis.bands else "site"
    tables = []
    for metric in SUMMARY_METRICS:
        rows = [
            Row(
                clean_line(arm),
                [
                    difference(analysis.difference(arm, reference, metric, scope=scope).to_json())
                    for scope in scopes
                ],
            )
            for arm in analysis.arms
            if arm != reference
        ]
        label = METRICS[metric].label
        header = ["Arm", *(clean_line(scope) for scope in scopes)]
        tables.append(Table(f"{label} relative to {reference}, at each {what}", header, rows))
    return Section("sites", f"By {what}", [Part(tables=tables)])


def _vitals_section(analysis: Analysis) -> Section:
    """Return the values of every metric by vital, all sites together."""
    tables = []
    for metric in METRICS.values():
        header = ["Arm"]
        for vital in VITALS:
            if vital.name in analysis.vitals():
                unit = metric.unit.replace("vital", vital.unit)
                header.append(f"{VITAL_LABELS[vital.name]}{f', {unit}' if unit else ''}")
        rows = [
            Row(
                clean_line(arm),
                [
                    _value(analysis.value(arm, metric.name, vital), _DIGITS.get(metric.name, 3))
                    for vital in analysis.vitals()
                ],
            )
            for arm in analysis.arms
        ]
        tables.append(Table(f"{metric.label}, all sites", header, rows))
    part = Part(tables=tables[:1], folded_title="All other metrics", folded=tables[1:])
    return Section("vitals", "Vital by vital", [part])


def _value(interval: Interval, digits: int) -> NumberCell:
    return bracketed(interval.to_json(), digits)


def _how_section(experiment: Experiment, analysis: Analysis, command: str) -> Section:
    first = next(iter(analysis.arms.values()))
    base = analysis.arms[analysis.references[-1]].cell.config
    shared = {k: v for k, v in base.flat().items() if k not in ("data", "out", "resume", "seed")}
    seeds = sorted({seed for arm in analysis.arms.values() for seed in arm.results})
    scope = next(iter(first.results.values())).scores
    members = analysis.bands or {site: (site,) for site in scope}
    counts = [
        Row(
            name,
            [
                f"{sum(len(scope[site].patient_ids) for site in sites):,}",
                f"{sum(int(scope[site].windows.sum()) for site in sites):,}",
            ],
        )
        for name, sites in members.items()
    ]
    return Section(
        "how",
        "Methods",
        [
            Part(
                paragraphs=[*_NOTES, *experiment.notes, f"Seeds: {', '.join(map(str, seeds))}."],
                tables=[Table("Test patients", ["Sites", "Patients", "Windows"], counts)],
                code=command,
            ),
            Part("Settings that the arms share", code=json.dumps(shared, indent=1)),
        ],
    )
