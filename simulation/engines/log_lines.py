"""Flower's log on the console of a command: plain lines, each once, above a live bar."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import flwr.common.logger  # noqa: F401 - it sets up its handler, which is replaced here

OWN = "flwr.fedvitals"
"""Parent of our own loggers, whose INFO lines are shown; of Flower's only warnings are."""
ROUNDS = "flwr.fedvitals.rounds"
"""Logger of the rounds, whose lines come from the run folder, for every engine."""


class _Lines(logging.Handler):
    def __init__(self, print_line: Callable[[str], None]) -> None:
        super().__init__(logging.INFO)
        self._print_line = print_line

    def emit(self, record: logging.LogRecord) -> None:
        warning = record.levelno >= logging.WARNING
        if record.name == ROUNDS or not (warning or record.name.startswith(OWN)):
            return
        text = record.getMessage()
        self._print_line(f"{record.levelname.lower()}: {text}" if warning else text)


@contextmanager
def log_lines(print_line: Callable[[str], None]) -> Iterator[None]:
    """Print the log's lines with a function while the block runs.

    Flower's own handler colours them, also in a pipe, and a handler that another library has put on
    the root logger would repeat them.
    """
    logger = logging.getLogger("flwr")
    before = logger.handlers[:], logger.propagate, logger.level
    logger.handlers[:] = [_Lines(print_line)]
    logger.propagate = False
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.handlers[:], logger.propagate = before[0], before[1]
        logger.setLevel(before[2])
