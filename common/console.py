"""The console: its width, its progress bar, and tables that stay readable at 80 columns.

One way for every command of fedvitals to start and to end.

A command raises `FedvitalsError` for what its user can mend; `run` turns it into one line on
standard error and the error's exit code. `--debug`, anywhere on the line, shows the traceback.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import typer
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

from common.errors import FedvitalsError

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells report a process ended by SIGINT."""


def run(app: typer.Typer, argv: Sequence[str] | None = None) -> int:
    """Run a Typer application and return the exit code of the process.

    Args:
        app: the application with its commands.
        argv: the arguments without the program's name; `sys.argv[1:]` when None.

    Returns:
        0 on success, the error's `exit_code` on a `FedvitalsError`, Click's code on bad usage.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in arguments
    arguments = [argument for argument in arguments if argument != "--debug"]
    try:
        result = app(arguments, standalone_mode=True)
    except SystemExit as stop:
        return _exit_code(stop.code)
    except FedvitalsError as error:
        _say(error)
        if debug:
            traceback.print_exc()
        return error.exit_code
    except KeyboardInterrupt:
        Console(stderr=True).print("interrupted", style="red")
        return INTERRUPTED
    return result if isinstance(result, int) else 0


def _exit_code(code: object) -> int:
    if code is None:
        return 0
    return code if isinstance(code, int) else 1


def _say(error: FedvitalsError) -> None:
    # soft_wrap keeps the message on one line, whatever the terminal's width: scripts grep it.
    console = Console(stderr=True, soft_wrap=True, highlight=False)
    console.print("error:", style="bold red", end=" ")
    console.print(str(error), markup=False)


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
