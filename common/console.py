"""The console: its width, and tables that stay readable at 80 columns."""

from __future__ import annotations

from collections.abc import Sequence

from rich.box import SIMPLE
from rich.console import Console
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
