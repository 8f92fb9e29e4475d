"""Processes of the tests: called, waited for and killed."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence


def wait_for(what: str, condition: Callable[[], object], timeout_s: float = 120.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain until {what}"
        time.sleep(0.1)


def call(command: Sequence[str], environment: Mapping[str, str], code: int) -> str:
    """Run a command to its end; return what it prints, once its exit code is the right one."""
    result = subprocess.run(
        list(command), env=dict(environment), capture_output=True, text=True, timeout=240,
        check=False,
    )  # fmt: skip
    assert result.returncode == code, result.stdout + result.stderr
    return result.stdout + result.stderr


def finish(run: subprocess.Popen[str]) -> tuple[int, str]:
    """Wait for a run's end; return its exit code and what it said."""
    said, _ = run.communicate(timeout=300)
    return run.returncode, said


def children_of(pid: int) -> list[int]:
    """The processes that a process started."""
    result = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True, check=False
    )
    return [int(line) for line in result.stdout.split()]


def kill(pids: Sequence[int]) -> None:
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
