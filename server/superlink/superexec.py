"""`python -m server.superlink.superexec ...`: Flower's SuperExec, without colours in its log."""

from __future__ import annotations

import sys

from flwr.supercore.cli import flower_superexec

from common.flower.log_colours import plain_flower_log


def main() -> None:
    """Run the SuperExec with this process's arguments until a signal ends it."""
    plain_flower_log()
    sys.argv[0] = "flower-superexec"
    flower_superexec()


if __name__ == "__main__":
    main()
