"""Common frame of all commands: the application, its errors and exit codes, and its output.

A command raises `FedvitalsError` for what its user can fix. `run` turns it into one line on
standard error and the error's exit code. `--debug`, anywhere on the line, shows the traceback.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

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
from typer.core import TyperGroup, TyperOption
from typer.models import ArgumentInfo

from common.errors import FedvitalsError

if TYPE_CHECKING:
    from click import Command

ExportFolder = Annotated[
    Path | None,
    typer.Option(
        "--export",
        metavar="FOLDER",
        help="Also write each table (.csv, .tex) and figure (.svg, .pdf) into this folder.",
        show_default=False,
    ),
]
"""Option of every command that makes a report or tables."""

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells report a process ended by SIGINT."""


def application(summary: str, *, completion: bool = False, **options: Any) -> typer.Typer:
    """Return a Typer application with the settings that all programs share.

    Args:
        summary: first line of its help.
        completion: offer `--install-completion` and `--show-completion`.
        **options: further arguments of `typer.Typer`.
    """
    return typer.Typer(
        help=summary,
        epilog="--debug, anywhere on the line, shows the traceback of an error.",
        no_args_is_help=True,
        add_completion=completion,
        pretty_exceptions_enable=False,
        # Typer's default, "rich", swallows what is in [brackets] and breaks lines mid-sentence.
        rich_markup_mode="markdown",
        **options,
    )


def run(app: typer.Typer, argv: Sequence[str] | None = None, program: str | None = None) -> int:
    """Run a Typer application and return the exit code of the process.

    Args:
        app: the application with its commands.
        argv: the arguments without the program's name; `sys.argv[1:]` when None.
        program: the program's name in its help; as it was started when None.

    Returns:
        0 on success, the error's `exit_code` on a `FedvitalsError`, Click's code on bad usage.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in arguments
    arguments = [argument for argument in arguments if argument != "--debug"]
    try:
        result: Any = click_command(app).main(arguments, program, standalone_mode=True)
    except SystemExit as stop:
        return _exit_code(stop.code)
    except FedvitalsError as error:
        _print_error(error)
        if debug:
            traceback.print_exc()
        return error.exit_code
    except KeyboardInterrupt:
        Console(stderr=True).print("interrupted", style="red")
        return INTERRUPTED
    return result if isinstance(result, int) else 0


@dataclass(frozen=True)
class HiddenName:
    """Former name of an option: accepted, but not shown in the help.

    It follows the option in its annotation: `Annotated[T, typer.Option(...), HiddenName("--old")]`.
    """

    name: str


def click_command(app: typer.Typer) -> Command:
    """Return an application as a Click command, with its hidden names and its arguments' help."""
    command: Command = typer.main.get_command(app)
    _complete(command)
    return command


def _complete(command: Command) -> None:
    if isinstance(command, TyperGroup):
        for child in command.commands.values():
            _complete(child)
    if command.callback is None:
        return
    annotations = get_type_hints(command.callback, include_extras=True)
    for parameter in list(command.params):
        for part in getattr(annotations.get(str(parameter.name)), "__metadata__", ()):
            if isinstance(part, ArgumentInfo):
                # Click 8.5 resets the help that Typer 0.20 has set.
                setattr(parameter, "help", part.help)  # noqa: B010
            elif isinstance(part, HiddenName):
                command.params.append(_hidden_option(parameter, part.name))


def _hidden_option(parameter: Any, name: str) -> TyperOption:
    # Under the same parameter name, the parser appends the values of both to one list.
    return TyperOption(
        param_decls=[parameter.name, name],
        type=parameter.type,
        multiple=parameter.multiple,
        expose_value=False,
        hidden=True,
    )


def _exit_code(code: object) -> int:
    if code is None:
        return 0
    return code if isinstance(code, int) else 1


def _print_error(error: FedvitalsError) -> None:
    # soft_wrap keeps the message on one line, whatever the terminal's width: scripts grep it.
    console = Console(stderr=True, soft_wrap=True, highlight=False)
    console.print("error:", style="bold red", end=" ")
    console.print(str(error), markup=False)


PIPED_COLUMNS = 100
"""Width of output to a file or a pipe."""


def output_console() -> Console:
    """Return the console for a command's results, on standard output."""
    console = Console()
    return console if console.is_terminal else Console(width=PIPED_COLUMNS)


def print_line(text: str) -> None:
    """Print a line as it is and flush it: no wrapping, no markup, and a log does not lag behind."""
    print(text, flush=True)


def narrow_table(title: str, text_columns: Sequence[str], number_columns: Sequence[str]) -> Table:
    """Return an empty table that stays readable at 80 columns.

    Text is aligned left and folded; numbers are aligned right and never cut off.
    """
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
    """Draw a progress bar on standard error while the block runs, if that is a terminal.

    Yields:
        A callback that takes the bytes read so far and their total.
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
