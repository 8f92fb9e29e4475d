"""Progress of a run on the console, read from its rounds.jsonl, for every engine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from server.runs.run_folder import read_rounds


class RunProgress:
    """Progress bar over the rounds with the current site and the validation WQL.

    Args:
        run: the run folder.
        rounds: rounds of the run.
        console: console of the bar; nothing is drawn unless it is a terminal.
        on_look: called at every look at the run folder.
    """

    def __init__(
        self,
        run: Path,
        rounds: int,
        console: Console | None = None,
        on_look: Callable[[], None] | None = None,
    ) -> None:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[state]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        self._run = run
        self._bar = Progress(
            *columns, console=console, disable=console is None or not console.is_terminal
        )
        # One more for the validation of the last adapter.
        self._task = self._bar.add_task("rounds", total=rounds + 1, state="")
        self._quality = ""
        self._on_look = on_look

    @classmethod
    def silent(cls) -> RunProgress:
        """Return a display that shows nothing."""
        return cls(Path(), 0)

    @contextmanager
    def shown(self) -> Iterator[RunProgress]:
        """Show the bar while the block runs."""
        with self._bar:
            yield self

    def site_works(self, message_type: str, site: str) -> None:
        """Show that a site starts to process a message."""
        verb = {"train": "trains", "evaluate": "validates"}.get(message_type)
        self.look()
        self._draw(f"{site} {verb}" if verb else "the sites join")

    def look(self) -> None:
        """Update the bar from the run folder."""
        if self._on_look is not None:
            self._on_look()
        rounds = read_rounds(self._run)
        if not rounds:
            return
        wql = [
            round_["validation_wql"] for round_ in rounds if round_["validation_wql"] is not None
        ]
        if wql:
            self._quality = f"WQL {wql[0]:.4f} -> {min(wql):.4f}"
        self._bar.update(self._task, completed=len(rounds))
        self._draw("")

    def _draw(self, what: str) -> None:
        self._bar.update(self._task, state=" ".join(filter(None, (self._quality, what))))
