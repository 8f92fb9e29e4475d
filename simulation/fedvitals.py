"""Entry point of the script `fedvitals`; its sub-commands are in `simulation.programs`."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from common.interrupts import run_program


def main(argv: Sequence[str] | None = None) -> int:
    """Run the script `fedvitals` and return its exit code."""

    def start() -> int:
        from common.console import run
        from simulation.programs import app

        return run(app, argv, "fedvitals")

    return run_program(start)


if __name__ == "__main__":
    sys.exit(main())
