"""Start and end of a program's process, and its answer to SIGINT, SIGTERM and SIGHUP.

Begin with `run_program`, which each program's `__main__` calls. Imports the standard library only,
so that a signal is answered in one line from the first milliseconds on.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Ctrl-C, a stop by a service manager or `kill`, and a terminal or connection that was closed."""

DEBOUNCE_S = 1.0
"""A terminal and a parent process may both send the signal: those that follow it are one."""

_RAISE_AGAIN_S = 0.05


class Stopped(KeyboardInterrupt):
    """One of `SIGNALS` has arrived.

    Args:
        number: the signal.

    Attributes:
        reported: whether the user has been told, e.g. by a child process.
    """

    def __init__(self, number: int = signal.SIGINT) -> None:
        super().__init__(number)
        self.number = number
        self.reported = False


class _Received:
    """The signal received so far, of which there is one per process."""

    number: int | None = None
    at: float = 0.0


def run_program(start: Callable[[], int]) -> int:
    """Run a program and return the exit code of its process.

    Args:
        start: imports the program, runs it and returns its exit code.

    Returns:
        The code of `start`; 128 and the signal's number where a signal arrived in its imports.
    """
    catch_signals()
    try:
        return start()
    except BaseException as error:
        # A signal in the import of a compiled module can come out as another exception.
        number = signal_of(error)
        if number is None:
            raise
        print("Interrupted; the command had not begun.", file=sys.stderr)
        return 128 + number
    finally:
        _end_at_once_on_signals()


def catch_signals() -> None:
    """Raise `Stopped` in the main thread on each of `SIGNALS` that is heeded."""
    for number in heeded_signals():
        signal.signal(number, _stop)
    sys.unraisablehook = _raise_again


def heeded_signals() -> tuple[signal.Signals, ...]:
    """Return the signals that the parent process has not set to be ignored, as nohup does."""
    return tuple(one for one in SIGNALS if signal.getsignal(one) is not signal.SIG_IGN)


def signal_of(error: BaseException) -> int | None:
    """Return the signal that caused an exception; None if none did.

    Libraries turn the interruption into an exception of their own (DuckDB, Arrow) or into an exit
    (Typer): after a signal, every exception counts as its consequence.
    """
    for cause in causes(error):
        if isinstance(cause, KeyboardInterrupt):
            return getattr(cause, "number", int(signal.SIGINT))
    return _Received.number


def run_child(command: Sequence[str]) -> int:
    """Run one of our own commands in a child process and return its exit code.

    A signal is passed on to the child, which ends with its own line.
    """
    with subprocess.Popen(command) as child:  # noqa: S603 (our own interpreter)
        try:
            return child.wait()
        except Stopped as stop:
            child.send_signal(stop.number)
            child.wait()
            stop.reported = True
            raise


def causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an exception and those that it was raised from or after, the newest first."""
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        yield current
        current = current.__cause__ or current.__context__


@contextmanager
def left_when_stopped(text: str | Callable[[], str]) -> Iterator[None]:
    """Say what an interruption of the block leaves on disk, and how to continue.

    The text is attached to the exception as a note (PEP 678); `common.console.run` prints it after
    "Interrupted", or after the reason for which a file could not be written.

    Args:
        text: one sentence without a capital and a full stop, or a function that returns it.
    """
    try:
        yield
    except BaseException as error:
        error.add_note(text if isinstance(text, str) else text())
        raise


def _stop(number: int, _frame: Any) -> None:
    now = time.monotonic()
    repeated = _Received.number is not None and now - _Received.at < DEBOUNCE_S
    _Received.number, _Received.at = number, now
    if not repeated:
        raise Stopped(number)


def _raise_again(unraisable: Any) -> None:
    """Raise `Stopped` again where Python has dropped it, e.g. inside a destructor."""
    if not isinstance(unraisable.exc_value, Stopped):
        sys.__unraisablehook__(unraisable)
        return
    number = unraisable.exc_value.number

    def send() -> None:
        time.sleep(_RAISE_AGAIN_S)
        _Received.at = 0.0
        os.kill(os.getpid(), number)

    # From another thread, since an exception raised here would be dropped as well.
    threading.Thread(target=send, daemon=True).start()


def _end_at_once_on_signals() -> None:
    """End without a word on a signal from now on: the command is over, its output is written."""
    for number in heeded_signals():
        signal.signal(number, lambda received, _frame: os._exit(128 + received))
