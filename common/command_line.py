"""One way for every command of fedvitals to start and to end.

A command raises `FedvitalsError` for what its user can mend; `run` turns it into one line on
standard error and the error's exit code. `--debug`, anywhere on the line, shows the traceback.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Sequence

import typer
from rich.console import Console

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
