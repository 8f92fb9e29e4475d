"""An experiment's folder: the tidy tables, the figures, and a page that says what they show."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from common.atomic_io import write_text
from common.data.site_table import VITALS
from common.evaluation.bootstrap import Interval
from common.evaluation.metrics import METRICS
from common.reporting.components import (
    Figure,
    Page,
    Part,
    Row,
    Section,
    Table,
    Tile,
    difference,
    raw_html,
    render_page,
)
from common.reporting.phrasing import (
    NOTHING,
    VITAL_LABELS,
    byte_size,
    clean_line,
    number,
    percent,
)
from common.reporting.svg import differences_figure
from simulation.experiments.analysis.analysis import Analysis
from simulation.experiments.experiment import Experiment
from simulation.experiments.output.csv import write_tables
from simulation.experiments.output.figures import standalone
from simulation.experiments.output.markdown import TABLE_FILE, markdown_table
from simulation.experiments.runner import Arm

PAGE_FILE = "index.html"
HEADLINE = ("wql", "mae")
_DIGITS = {"wql": 4, "temperature_c": 3}
_NOTES = (
    "Every model forecasts the same windows of the same test patients, whom neither training nor "
    "the choice of a round saw.",
    "Differences are relative and, where no vital sign is named, the unweighted mean over the "
    "vital signs. In brackets: 95 % intervals of the mean over the seeds; patients are resampled, "
    "the training is not repeated, so that they tell nothing about other seeds. For those see the "
    "range: the lowest and the highest seed.",
    "WQL = weighted quantile loss, MAE = mean absolute error of the median; lower is better.",
)


@dataclass(frozen=True)
class Shown:
    """What an experiment adds to its page.

    Attributes:
        headline: the result in a sentence.
        tiles: its figures.
        findings: paragraphs; no stronger than their intervals.
        warnings: what must not be overlooked.
        figures: beside the differences of all arms.
        sections: beside the usual ones, before them.
    """

    headline: str
    tiles: Sequence[Tile] = ()
    findings: Sequence[str] = ()
    warnings: Sequence[str] = ()
    figures: Sequence[tuple[str, Figure]] = ()
    sections: Sequence[Section] = ()


def write_experiment(
    folder: Path, experiment: Experiment, analysis: Analysis, shown: Shown, command: str
) -> Path:
    """Write the CSV files, table.md, the figures and index.html; return the page's path.

    Args:
        folder: the experiment's own folder.
        experiment: what was asked.
        analysis: what the cells say.
        shown: what is particular about this experiment.
        command: the line that does it again.
    """
    write_tables(folder, analysis)
    said = [shown.headline, *shown.warnings, "\n".join(f"- {one}" for one in shown.findings)]
    write_text(folder / TABLE_FILE, markdown_table(analysis, said, command))
    figures = [*_difference_figures(analysis), *shown.figures]
    for name, figure in figures:
        write_text(folder / f"{name}.svg", standalone(str(figure.svg)))
    parts = [Part(paragraphs=[experiment.question, *shown.findings], warnings=shown.warnings)]
    page = Page(
        kicker="experiment",
        title=experiment.title,
        headline=shown.headline,
        tiles=shown.tiles,
        sections=[
            Section("finding", "What came out", parts),
            _arms_section(analysis, [figure for _, figure in figures]),
            *shown.sections,
            _sites_section(analysis),
            _vitals_section(analysis),
            _how_section(experiment, analysis, command),
        ],
    )
    write_text(folder / PAGE_FILE, render_page(page))
    return folder / PAGE_FILE


def _difference_figures(analysis: Analysis) -> list[tuple[str, Figure]]:
    reference = analysis.references[0]
    figures = []
    for metric in HEADLINE:
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
    rows = [Row(clean_line(name), _cost_cells(arm)) for name, arm in analysis.arms.items()]
    tables.append(Table("What it took, the mean over seeds", header, rows))
    return Section("arms", "All arms", [Part(figures=figures), Part(tables=tables)])


def _difference_table(analysis: Analysis, reference: str) -> Table:
    header = ["Arm", *(METRICS[metric].label for metric in HEADLINE)]
    header += [f"{METRICS[metric].label}, range of seeds" for metric in HEADLINE]
    rows = [
        Row(
            clean_line(arm),
            [
                *(
                    difference(analysis.difference(arm, reference, metric).to_json())
                    for metric in HEADLINE
                ),
                *(seed_range(analysis, arm, reference, metric) for metric in HEADLINE),
            ],
        )
        for arm in analysis.arms
        if arm != reference
    ]
    return Table(f"Relative to {reference}, all sites' test patients together", header, rows)


def _cost_cells(arm: Arm) -> list[str]:
    parameters, exchanged = arm.fact("parameters"), arm.fact("bytes")
    seconds = arm.measured("seconds")
    return [
        str(len(arm.outcomes)),
        NOTHING if parameters is None else f"{parameters:,.0f}",
        NOTHING if not exchanged else byte_size(exchanged),
        NOTHING if seconds is None else f"{seconds:,.0f}",
    ]


def seed_range(analysis: Analysis, arm: str, reference: str, metric: str) -> str:
    """Return the lowest and the highest seed's difference; nothing where there is one seed."""
    seeds = analysis.seeds(arm, reference, metric)
    if len(seeds) < 2:
        return NOTHING
    return f"{percent(min(seeds))} to {percent(max(seeds))}"


def _sites_section(analysis: Analysis) -> Section:
    reference = analysis.references[0]
    tables = []
    for metric in HEADLINE:
        rows = [
            Row(
                clean_line(arm),
                [
                    difference(analysis.difference(arm, reference, metric, scope=site).to_json())
                    for site in analysis.sites
                ],
            )
            for arm in analysis.arms
            if arm != reference
        ]
        label = METRICS[metric].label
        header = ["Arm", *(clean_line(site) for site in analysis.sites)]
        tables.append(Table(f"{label} relative to {reference}, at each site", header, rows))
    return Section("sites", "Site by site", [Part(tables=tables)])


def _vitals_section(analysis: Analysis) -> Section:
    """Values of every metric by vital, all sites together."""
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


def _value(interval: Interval, digits: int) -> str:
    known = interval.to_json()
    text = number(known["estimate"], digits)
    if known["low"] is None:
        return text
    return f"{text} [{number(known['low'], digits)}, {number(known['high'], digits)}]"


def _how_section(experiment: Experiment, analysis: Analysis, command: str) -> Section:
    first = next(iter(analysis.arms.values()))
    base = analysis.arms[analysis.references[-1]].cell.config
    kept = {k: v for k, v in base.flat().items() if k not in ("data", "out", "resume", "seed")}
    seeds = sorted({seed for arm in analysis.arms.values() for seed in arm.outcomes})
    scope = next(iter(first.outcomes.values())).scores
    counts = [
        Row(site, [f"{len(one.patient_ids):,}", f"{int(one.windows.sum()):,}"])
        for site, one in scope.items()
    ]
    return Section(
        "how",
        "How it was done",
        [
            Part(
                paragraphs=[*_NOTES, *experiment.notes, f"Seeds: {', '.join(map(str, seeds))}."],
                tables=[Table("Test patients", ["Site", "Patients", "Windows"], counts)],
                code=command,
            ),
            Part("Settings that the arms share", code=json.dumps(kept, indent=1)),
        ],
    )
