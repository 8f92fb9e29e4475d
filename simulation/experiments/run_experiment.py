"""One way for every experiment to be run: cells, analysis, folder, and a table on the console."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from common.console import narrow_table
from common.evaluation.metrics import METRICS
from common.reporting.phrasing import NOTHING, bounds, percent
from simulation.experiments.analysis.analysis import Analysis, analyse
from simulation.experiments.analysis.subgroups import Groups, groups_of
from simulation.experiments.experiment import Experiment
from simulation.experiments.output.html import HEADLINE, Shown, seed_range, write_experiment
from simulation.experiments.runner import CellProgress, run_cells

Show = Callable[[Analysis], Shown]
"""Says what is particular about an experiment, from its analysis."""


@dataclass(frozen=True)
class Conducted:
    """An experiment, done.

    Attributes:
        analysis: what its cells say.
        shown: what its page says first.
        page: the page's path.
    """

    analysis: Analysis
    shown: Shown
    page: Path


def conduct(
    experiment: Experiment,
    seeds: Sequence[int],
    out: Path,
    show: Show,
    *,
    command: str,
    only: Collection[str] = (),
    console: Console | None = None,
) -> Conducted:
    """Run what is not there yet of an experiment and write its folder.

    Args:
        experiment: what is asked.
        seeds: at least one.
        out: the folder that experiments share; this one's is ``out/<its name>``.
        show: see `Show`.
        command: the line that does it again, for the page.
        only: groups of cells; all when empty.
        console: where progress is shown, if anywhere.

    Raises:
        FedvitalsError: where a cell fails; those that are finished stay.
    """
    cells = experiment.cells(only)
    # Before hours of training: what cannot be read is told at once.
    groups = groups_of(cells[0].config) if experiment.by_group else Groups()
    arms = run_cells(cells, seeds, out, CellProgress(experiment.name, console))
    analysis = analyse(arms, experiment.references, groups)
    shown = show(analysis)
    page = write_experiment(out / experiment.name, experiment, analysis, shown, command)
    return Conducted(analysis, shown, page)


def summary_table(analysis: Analysis, title: str) -> Table:
    """Draw the arms against the first reference, for the console."""
    reference = analysis.references[0]
    table = narrow_table(
        f"{title}: difference to {reference}, mean over vitals",
        ["arm"],
        [*(METRICS[metric].label for metric in HEADLINE), "WQL of the seeds"],
    )
    for name in analysis.arms:
        if name == reference:
            table.add_row(escape(name), *[NOTHING] * (len(HEADLINE) + 1))
            continue
        cells = []
        for metric in HEADLINE:
            interval = analysis.difference(name, reference, metric).to_json()
            cells.append(escape(f"{percent(interval['estimate'])} {bounds(interval)}".strip()))
        table.add_row(escape(name), *cells, seed_range(analysis, name, reference, "wql"))
    return table
