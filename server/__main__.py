"""`python -m server`: the coordinator's commands."""

from __future__ import annotations

import sys

from common.startup import start

if __name__ == "__main__":
    sys.exit(start("server.cli"))
