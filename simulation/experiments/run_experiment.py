"""Runs a study: cells, analysis, output folder, and a table for the console."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from common.config.run_config import RunConfig
from common.console import narrow_table
from common.evaluation.metrics import METRICS
from common.reporting.phrasing import NOTHING
from simulation.experiments.analysis.analysis import Analysis, analyse
from simulation.experiments.analysis.site_sizes import size_bands
from simulation.experiments.analysis.statements import (
    SUMMARY_METRICS,
    difference_text,
    seed_range,
)
from simulation.experiments.analysis.subgroups import Groups, groups_of
from simulation.experiments.experiment import Experiment, Study, StudySummary
from simulation.experiments.output.html import write_experiment
from simulation.experiments.run_cells import CellProgress, run_cells


@dataclass(frozen=True)
class StudyResult:
    """A finished study.

    Attributes:
        experiment: its arms.
        analysis: the results of its cells.
        summary: the head of its page.
        page: path of the page.
    """

    experiment: Experiment
    analysis: Analysis
    summary: StudySummary
    page: Path


def run_study(
    study: Study,
    config: RunConfig,
    seeds: Sequence[int],
    out: Path,
    *,
    options: Mapping[str, Any],
    pairs: Sequence[str] = (),
    only: Collection[str] = (),
    console: Console | None = None,
    export: Path | None = None,
) -> StudyResult:
    """Run the cells of a study that are not cached and write its output folder.

    Args:
        study: the study.
        config: the settings that all arms share.
        seeds: at least one.
        out: the folder that experiments share; this one's is ``out/<its name>``.
        options: the study's own options, as `Study.build` takes them.
        pairs: the settings given with ``-c``, for the command on the page.
        only: groups of cells; all when empty.
        console: where progress is shown; None shows none.
        export: folder for the page's tables and figures as files; None for none.

    Raises:
        FedvitalsError: a cell failed; the finished ones stay cached.
    """
    experiment = study.build(config, out, **options)
    cells = experiment.cells(only)
    # Before hours of training, so that an unreadable patients table fails at once.
    groups = groups_of(cells[0].config) if experiment.by_group else Groups()
    bands = size_bands(cells[0].config) if experiment.by_group else {}
    arms = run_cells(cells, seeds, out, CellProgress(experiment.name, console))
    analysis = analyse(arms, experiment.references, groups, bands)
    summary = study.summarise(analysis)
    command = " ".join(
        [
            study.command_line(options),
            f"--data DIR --seeds {','.join(map(str, seeds))}",
            *(f"--only {group}" for group in only),
            *(f"-c {pair}" for pair in pairs),
        ]
    )
    page = write_experiment(out / experiment.name, experiment, analysis, summary, command, export)
    return StudyResult(experiment, analysis, summary, page)


def summary_table(result: StudyResult) -> Table:
    """Return a console table of the arms against the first reference."""
    analysis = result.analysis
    reference = analysis.references[0]
    table = narrow_table(
        f"{result.experiment.title}: difference to {reference}, mean over vitals",
        ["arm"],
        [*(METRICS[metric].label for metric in SUMMARY_METRICS), "WQL of the seeds"],
    )
    for name in analysis.arms:
        if name == reference:
            table.add_row(escape(name), *[NOTHING] * (len(SUMMARY_METRICS) + 1))
            continue
        cells = [
            escape(difference_text(analysis, name, reference, metric)) for metric in SUMMARY_METRICS
        ]
        table.add_row(escape(name), *cells, seed_range(analysis, name, reference, "wql"))
    return table
