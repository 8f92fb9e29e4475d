"""Signals of a child process, whatever those of the process that runs the tests are."""

from __future__ import annotations

import signal


def heed_signals() -> None:
    """Give SIGINT its default in a new process: a shell's background jobs are made to ignore it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
