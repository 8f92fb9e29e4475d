"""`python -m server`: the coordinator's commands."""

from __future__ import annotations

import sys

from common.interrupts import run_program


def _start() -> int:
    """Import the commands and run the one that is given; return its exit code."""
    from common.console import run
    from server.cli import app

    return run(app)


if __name__ == "__main__":
    sys.exit(run_program(_start))
