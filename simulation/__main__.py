"""`python -m simulation`: the researcher's commands."""

from __future__ import annotations

import sys

from common.startup import start

if __name__ == "__main__":
    sys.exit(start("simulation.cli"))
