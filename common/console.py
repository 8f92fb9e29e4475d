"""The console: its width, its progress bar, and tables that stay readable at 80 columns."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rich.box import SIMPLE
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table

PIPED_COLUMNS = 100
"""The width of what is written to a file or a pipe, where no terminal says how wide it is."""


def output_console() -> Console:
    """Return the console of a command's results, on standard output."""
    console = Console()
    return console if console.is_terminal else Console(width=PIPED_COLUMNS)


def narrow_table(title: str, text_columns: Sequence[str], number_columns: Sequence[str]) -> Table:
    """Return an empty table: text to the left, numbers to the right and never cut off."""
    table = Table(
        title=title, title_justify="left", box=SIMPLE, pad_edge=False, padding=(0, 1, 0, 0)
    )
    for name in text_columns:
        table.add_column(name, overflow="fold")
    for name in number_columns:
        table.add_column(name, justify="right", no_wrap=True, min_width=len(name))
    return table


@contextmanager
def byte_progress(label: str) -> Iterator[Callable[[int, int], None]]:
    """Draw a bar on standard error while the block runs; none where that is no terminal.

    Yields:
        What to call with the bytes read so far and their total.
    """
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TimeRemainingColumn(),
    )
    console = Console(stderr=True)
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as progress:
        task = progress.add_task(label, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)
