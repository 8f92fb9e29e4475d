"""Runs the cells of an experiment one after the other; finished ones come from the cache."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import MofNCompleteColumn, TaskID

from common.backbones.limits import check_backbone_limits
from simulation.engines.inprocess import quiet_flower
from simulation.experiments.cell_cache import (
    Cell,
    CellResult,
    cell_key,
    read_cell,
    write_cell,
)
from simulation.experiments.models.registry import method_of
from simulation.progress import live_bar


@dataclass(frozen=True, eq=False)
class Arm:
    """One arm of an experiment: its results by seed, in the order of the seeds."""

    name: str
    cell: Cell
    results: dict[int, CellResult] = field(default_factory=dict)

    def fact(self, name: str) -> float | None:
        """Return the mean over seeds of a fact; None if a seed lacks it."""
        return _mean([result.facts.get(name) for result in self.results.values()])

    def measured(self, name: str) -> float | None:
        """Return the mean over seeds of a measurement; None if a seed lacks it."""
        return _mean([result.measured.get(name) for result in self.results.values()])


def run_cells(
    cells: Sequence[Cell], seeds: Sequence[int], out: Path, progress: CellProgress | None = None
) -> dict[str, Arm]:
    """Run every cell with every seed and return the arms in the order of the cells.

    Seeds are the outer loop, so that all arms are complete after the first seed. A method that does
    not depend on the seed runs once.

    Args:
        cells: one per arm.
        seeds: at least one.
        out: the folder that experiments share.
        progress: display; None shows nothing.

    Raises:
        FedvitalsError: a cell failed; the finished ones stay cached.
    """
    progress = progress or CellProgress.silent()
    arms = {cell.arm: Arm(cell.arm, cell) for cell in cells}
    work = [
        (cell, seed)
        for place, seed in enumerate(seeds)
        for cell in cells
        if place == 0 or method_of(cell.method).seeded
    ]
    _check_limits(work, out)
    with progress.shown(len(work)):
        for cell, seed in work:
            with progress.cell(f"{cell.arm}, seed {seed}"):
                arms[cell.arm].results[seed] = run_cell(cell.with_seed(seed), out, progress)
    return arms


def _check_limits(work: Sequence[tuple[Cell, int]], out: Path) -> None:
    """Check the settings of all cells against their backbones, before the first one is trained."""
    checked = set()
    for cell, seed in work:
        reads = method_of(cell.method).reads
        if not "backbone".startswith(reads) or _is_finished(cell.with_seed(seed), out):
            continue
        adapted, config = "lora.rank".startswith(reads), cell.config
        parts = (config.backbone, config.lora, config.windows.context, config.windows.horizon)
        if (parts, adapted) not in checked:
            checked.add((parts, adapted))
            check_backbone_limits(config, adapted=adapted)


def _is_finished(cell: Cell, out: Path) -> bool:
    return (
        read_cell(out / "cells" / cell_key(cell.cache_inputs(method_of(cell.method).reads)))
        is not None
    )


def run_cell(cell: Cell, out: Path, progress: CellProgress) -> CellResult:
    """Return a cell's result from the cache, or run the cell and cache its result."""
    method = method_of(cell.method)
    inputs = cell.cache_inputs(method.reads)
    key = cell_key(inputs)
    folder = out / "cells" / key
    result = read_cell(folder)
    if result is None:
        # Sums depend on the number of threads, so it is set for every cell.
        if cell.config.train.threads:
            torch.set_num_threads(cell.config.train.threads)
        result = method.run(cell, out / "runs" / key, progress.set_status)
        write_cell(folder, inputs, result)
        progress.computed = True
    return result


class CellProgress:
    """A line per cell; on a terminal, below them, a bar with the current activity."""

    def __init__(self, title: str, console: Console | None = None) -> None:
        self._console = console
        self._bar = live_bar(console, MofNCompleteColumn())
        self._title = title
        self._task: TaskID | None = None
        self._done = self._total = 0
        self._label = ""
        self.computed = False

    @classmethod
    def silent(cls) -> CellProgress:
        """Return a display that shows nothing."""
        return cls("")

    @contextmanager
    def shown(self, cells: int) -> Iterator[None]:
        """Show the bar for this many cells while the block runs."""
        quiet_flower()  # its log lines would break the bar
        self._done, self._total = 0, cells
        with self._bar:
            self._task = self._bar.add_task(self._title, total=cells, state="")
            yield

    @contextmanager
    def cell(self, label: str) -> Iterator[None]:
        """Count a cell when the block ends."""
        self._label, self.computed = label, False
        started = time.monotonic()
        self.set_status("")
        yield
        self._done += 1
        if self._task is not None:
            self._bar.update(self._task, completed=self._done)
        if self._console is not None:
            how = f"{time.monotonic() - started:.0f} s" if self.computed else "was there"
            self._console.print(
                f"{self._title}: {self._done} of {self._total}, {label}: {how}",
                soft_wrap=True,
                highlight=False,
            )

    def set_status(self, text: str) -> None:
        """Show the current activity of the cell."""
        if self._task is not None:
            self._bar.update(self._task, state=" · ".join(filter(None, (self._label, text))))


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if len(known) == len(values) and known else None
