"""`python -m simulation`: the researcher's commands."""

from __future__ import annotations

import sys

from common.console import run
from simulation.cli import app

if __name__ == "__main__":
    sys.exit(run(app))
