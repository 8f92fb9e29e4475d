"""Runs cells one after the other: those that are finished are read, the others are computed."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)

from simulation.engines.inprocess import quiet_flower
from simulation.experiments.cell_cache import Cell, Outcome, cell_key, read_outcome, write_outcome
from simulation.experiments.models.registry import method_of


@dataclass(frozen=True, eq=False)
class Arm:
    """What is compared: the outcomes of one arm by seed, in the order of the seeds."""

    name: str
    cell: Cell
    outcomes: dict[int, Outcome] = field(default_factory=dict)

    def fact(self, name: str) -> float | None:
        """Return a fact, the mean over seeds; None where the arm has none of that name."""
        return _mean([outcome.facts.get(name) for outcome in self.outcomes.values()])

    def measured(self, name: str) -> float | None:
        """Return what was measured, the mean over seeds."""
        return _mean([outcome.measured.get(name) for outcome in self.outcomes.values()])


def run_cells(
    cells: Sequence[Cell], seeds: Sequence[int], out: Path, progress: CellProgress | None = None
) -> dict[str, Arm]:
    """Run every cell with every seed and return the arms in the order of the cells.

    Seeds are the outer loop: a table of all arms stands after the first. A method without anything
    random is run once.

    Args:
        cells: one for each arm.
        seeds: at least one.
        out: the output folder, which experiments share.
        progress: shown while it goes on.

    Raises:
        FedvitalsError: where a cell fails; the finished ones stay.
    """
    progress = progress or CellProgress.silent()
    arms = {cell.arm: Arm(cell.arm, cell) for cell in cells}
    work = [
        (cell, seed)
        for place, seed in enumerate(seeds)
        for cell in cells
        if place == 0 or method_of(cell.method).seeded
    ]
    with progress.shown(len(work)):
        for cell, seed in work:
            with progress.cell(f"{cell.arm}, seed {seed}"):
                arms[cell.arm].outcomes[seed] = run_cell(cell.with_seed(seed), out, progress)
    return arms


def run_cell(cell: Cell, out: Path, progress: CellProgress) -> Outcome:
    """Return a cell's outcome: the one that is there, or else a new one, which is then kept."""
    method = method_of(cell.method)
    deciding = cell.deciding(method.reads)
    key = cell_key(deciding)
    folder = out / "cells" / key
    outcome = read_outcome(folder)
    if outcome is None:
        # Sums depend on the number of threads: the same for every cell, whatever was run before.
        if cell.config.train.threads:
            torch.set_num_threads(cell.config.train.threads)
        outcome = method.run(cell, out / "runs" / key, progress.say)
        write_outcome(folder, deciding, outcome)
        progress.computed = True
    return outcome


class CellProgress:
    """A bar over the cells with what the current one does; lines where there is no terminal."""

    def __init__(self, title: str, console: Console | None = None) -> None:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[state]}"),
        )
        self._console = console
        live = console is not None and console.is_terminal
        self._bar = Progress(*columns, console=console, disable=not live)
        self._title = title
        self._task: TaskID | None = None
        self._done = self._total = 0
        self._label = ""
        self.computed = False

    @classmethod
    def silent(cls) -> CellProgress:
        """Return one that shows nothing."""
        return cls("")

    @contextmanager
    def shown(self, cells: int) -> Iterator[None]:
        """Draw the bar over a number of cells while the block runs."""
        quiet_flower()  # the bar tells what its lines would
        self._done, self._total = 0, cells
        with self._bar:
            self._task = self._bar.add_task(self._title, total=cells, state="")
            yield

    @contextmanager
    def cell(self, label: str) -> Iterator[None]:
        """Count a cell when the block ends."""
        self._label, self.computed = label, False
        started = time.monotonic()
        self.say("")
        yield
        self._done += 1
        if self._task is not None:
            self._bar.update(self._task, completed=self._done)
        if self._console is not None and not self._console.is_terminal:
            how = f"{time.monotonic() - started:.0f} s" if self.computed else "was there"
            self._console.print(
                f"{self._title}: {self._done} of {self._total}, {label}: {how}",
                soft_wrap=True,
                highlight=False,
            )

    def say(self, what: str) -> None:
        """Show what the cell does."""
        if self._task is not None:
            self._bar.update(self._task, state=" · ".join(filter(None, (self._label, what))))


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if len(known) == len(values) and known else None
