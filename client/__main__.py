"""`python -m client`: the commands of a hospital's data manager."""

from __future__ import annotations

import sys

from common.startup import start

if __name__ == "__main__":
    sys.exit(start("client.cli"))
