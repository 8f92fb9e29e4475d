"""Progress of a run on the console, for every engine: a line per round, and a live bar below."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Column

from common.console import is_live
from server.runs.follow import RoundLines
from simulation.engines.log_lines import log_lines

_REST = Column(no_wrap=True, overflow="ellipsis", ratio=1)
_VERBS = {"train": "trains", "evaluate": "validates"}


def live_bar(console: Console | None, count: ProgressColumn) -> Progress:
    """Return a bar with the current activity, the task's field `state`, on one row.

    Nothing is drawn where the console is None or cannot be drawn on; its printed lines stay.

    Args:
        console: its console.
        count: the column that shows how much is done.
    """
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=20),
        count,
        TimeElapsedColumn(),
        # The rest of one row: a wrapped bar would leave its rows on the screen.
        TextColumn("{task.fields[state]}", table_column=_REST),
        console=console,
        transient=True,
        expand=True,
        disable=console is None or not is_live(console),
    )


class RunProgress:
    """Line per round of a run, and below them a bar that moves with every site.

    Args:
        run: the run folder.
        rounds: rounds of the run.
        console: console of the lines and the bar; None shows nothing.
        on_look: called at every look at the run folder.
    """

    def __init__(
        self,
        run: Path,
        rounds: int,
        console: Console | None = None,
        on_look: Callable[[], None] | None = None,
    ) -> None:
        self._console = console
        self._rounds = rounds
        self._bar = live_bar(console, TaskProgressColumn())
        # One more for the validation of the last adapter.
        self._task = self._bar.add_task("the sites join", total=rounds + 1, state="")
        self._lines = RoundLines(run, self._print) if console is not None else None
        self._on_look = on_look
        self._sites = 0
        self._done = 0
        self._at_work = 0

    @classmethod
    def silent(cls) -> RunProgress:
        """Return a display that shows nothing."""
        return cls(Path(), 0)

    @contextmanager
    def shown(self) -> Iterator[RunProgress]:
        """Show the lines, the log and the bar while the block runs."""
        with self._bar, log_lines(self._log):
            yield self

    def expect(self, sites: int) -> None:
        """Set the number of sites of a round."""
        self._sites = sites

    def site_works(self, message_type: str, site: str) -> None:
        """Show that a site starts to process a message."""
        self.look()
        verb = _VERBS.get(message_type)
        if verb is None:
            return
        # The sites before it have replied.
        part = min(self._at_work / max(self._sites, 1), 0.99)
        self._at_work += 1
        self._draw(self._done + part, f"{site} {verb}")

    def look(self) -> None:
        """Print the rounds that have ended, and update the bar."""
        if self._on_look is not None:
            self._on_look()
        records = self._lines.print_new() if self._lines is not None else []
        after = self._lines.after_round if self._lines is not None else 0
        done = max([after, *(line["round"] for line in records if "failed" not in line)])
        if done > self._done:
            self._done, self._at_work = done, 0
            self._draw(self._done, "")

    def _draw(self, completed: float, state: str) -> None:
        number = self._done + 1
        what = f"round {number} of {self._rounds}" if number <= self._rounds else "last validation"
        self._bar.update(self._task, description=what, completed=completed, state=state)

    def _log(self, line: str) -> None:
        self.look()  # a round's line comes before what is logged after the round
        self._print(line)

    def _print(self, line: str) -> None:
        if self._console is not None:
            self._console.print(line, markup=False, highlight=False, soft_wrap=True)
