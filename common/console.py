"""Common frame of all commands: the application, its errors and exit codes, and its output.

A command raises `FedvitalsError` for what its user can fix. `run` turns it, and every other
exception, into one line on standard error and an exit code. `--debug`, anywhere on the line, shows
the traceback.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO, get_type_hints

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
from common.files.system_errors import abandon_output, describe_failure, is_closed_pipe
from common.interrupts import SIGNALS, causes, signal_of
from common.names import printable

if TYPE_CHECKING:
    from click import Command

AdapterPath = Annotated[
    Path,
    typer.Option(
        "--adapter",
        metavar="PATH",
        help="A run folder, its adapter/, a PEFT folder, or the adapter_model.safetensors in one.",
    ),
]
"""Option of every command that takes an adapter; `common.adapter.trained_adapter` finds it."""
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
"""Exit code after Ctrl-C, as shells report a process ended by SIGINT; 143 after SIGTERM, 129 after
SIGHUP."""
CLOSED_PIPE = 141
"""Exit code where the reader of standard output has ended, as shells report SIGPIPE."""
FAILED = 1
"""Exit code where the machine failed, e.g. by a full disk, or the program has a bug."""
_LONGEST_REASON = 300
_LONGEST_ENDING = 4000


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
        # Click makes the suggestion itself; Typer's would repeat it.
        suggest_commands=False,
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
        0 on success, the error's `exit_code` on a `FedvitalsError`, Click's code on bad usage,
        `INTERRUPTED` on Ctrl-C, `CLOSED_PIPE` or `FAILED`.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in arguments
    arguments = [argument for argument in arguments if argument != "--debug"]
    if os.environ.get("NO_COLOR"):
        from typer import rich_utils

        rich_utils.COLOR_SYSTEM = None  # of the help and of Click's own errors
    try:
        code = _main(app, arguments, program)
        sys.stdout.flush()  # a full disk or a closed pipe can show here for the first time
    except BaseException as error:
        code, line = _ending(error)
        if not any(getattr(cause, "reported", False) for cause in causes(error)):
            _print_ending(line, is_error=code not in _SIGNAL_CODES)
        if debug:
            traceback.print_exception(error)
        try:
            sys.stdout.flush()
        except (OSError, ValueError):
            abandon_output()
    return code


_SIGNAL_CODES = frozenset(128 + number for number in SIGNALS)


def _main(app: typer.Typer, arguments: Sequence[str], program: str | None) -> int:
    try:
        result: Any = click_command(app).main(arguments, program, standalone_mode=True)
    except SystemExit as stop:
        code = _exit_code(stop.code)
        # Typer and Rich turn these two into an exit of their own, without a word.
        if code in _SIGNAL_CODES and signal_of(stop) is not None:
            raise
        if code == 1 and is_closed_pipe(stop):
            raise
        return code
    return result if isinstance(result, int) else 0


def _ending(error: BaseException) -> tuple[int, str]:
    """Return the exit code and the line with which an exception ends the command."""
    notes = [note for cause in causes(error) for note in getattr(cause, "__notes__", ())]
    note = "".join(f"; {text}" for text in notes[:1])
    number = signal_of(error)
    if number is not None:
        return 128 + number, f"Interrupted{note or '; start the command again'}"
    if isinstance(error, FedvitalsError):
        return error.exit_code, str(error)
    if is_closed_pipe(error):
        return CLOSED_PIPE, f"standard output was closed before its end{note}"
    failure = describe_failure(error)
    if failure is not None:
        return FAILED, f"{failure}{note}"
    reason = " ".join(str(error).split())[:_LONGEST_REASON]
    return FAILED, (
        f"the program failed unexpectedly ({type(error).__name__}: {reason}){note}; --debug shows "
        "where, for a report of this bug"
    )


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


def _print_ending(line: str, *, is_error: bool) -> None:
    # soft_wrap keeps the message on one line, whatever the terminal's width: scripts grep it.
    console = error_console()
    with suppress(OSError, SystemExit):  # standard error may be closed as well
        if is_error:
            console.print("error:", style="bold red", end=" ")
        # A name or a server's text in it may hold codes that move the cursor.
        console.print(
            printable(line, _LONGEST_ENDING), markup=False, highlight=False, soft_wrap=True
        )


PIPED_COLUMNS = 100
"""Width of output to a file or a pipe."""


def output_console() -> Console:
    """Return the console for a command's results, on standard output."""
    return _console(sys.stdout, PIPED_COLUMNS)


def error_console() -> Console:
    """Return the console for progress and errors, on standard error."""
    return _console(sys.stderr)


def is_live(console: Console) -> bool:
    """Return whether a bar or a spinner may be drawn: on a terminal that moves its cursor."""
    return console.is_interactive and not console.is_dumb_terminal


@contextmanager
def working(label: str) -> Iterator[Callable[[str], None]]:
    """Show a spinner with a label on standard error while the block runs, if that is a terminal.

    Yields:
        A callback that changes the label.
    """
    console = error_console()
    if not is_live(console):
        yield lambda _: None
        return
    with console.status(label) as status:
        yield status.update


def _console(stream: TextIO, piped_columns: int | None = None) -> Console:
    """Return a console; FORCE_COLOR colours a pipe, and never moves a cursor there."""
    terminal = stream.isatty()
    return Console(
        stderr=stream is sys.stderr,
        width=None if terminal else piped_columns,
        # rich keeps bold text under NO_COLOR; a log that asks for it wants no code at all.
        color_system=None if os.environ.get("NO_COLOR") else "auto",
        force_interactive=terminal,
    )


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
    console = error_console()
    with Progress(
        *columns, console=console, transient=True, disable=not is_live(console)
    ) as progress:
        task = progress.add_task(label, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)
