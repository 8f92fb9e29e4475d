"""`python -m client`: the commands of a hospital's data manager."""

from __future__ import annotations

import sys

from client.cli import app
from common.console import run

if __name__ == "__main__":
    sys.exit(run(app))
