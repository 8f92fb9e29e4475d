"""Start of a program: Ctrl-C ends it with one line from the first moment, and imports are fast.

Only the standard library is imported here.
"""

from __future__ import annotations

import gc
import sys
from importlib import import_module

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells report a process ended by SIGINT."""


def start(program: str, name: str | None = None) -> int:
    """Import a program's commands, run the one on the command line, and return its exit code.

    Args:
        program: the module that has the Typer application `app`.
        name: the program's name in its help; as it was started when None.
    """
    # torch, transformers and Flower make half a million objects that live until the end. Frequent
    # collections look at all of them again and again, a third of the time that a command takes.
    gc.set_threshold(50_000, 20, 20)
    try:
        run = import_module("common.console").run
        code: int = run(import_module(program).app, program=name)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    finally:
        gc.freeze()  # the collection at the process's end
    return code


def fedvitals() -> int:
    """Run the script `fedvitals`."""
    return start("simulation.fedvitals", "fedvitals")
