from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from common.interrupts import Stopped, causes, left_when_stopped, signal_of
from tests.samples.signals import heed_signals

REPOSITORY = Path(__file__).resolve().parents[2]

PROGRAM = """
import sys, time
from common.interrupts import run_program

def wait():
    print("ready", flush=True)
    time.sleep(20)
    return 0

{start}

sys.exit(run_program(start))
"""

PHASES = {
    "work": "start = wait",
    "work whose library wraps it": """
def start():
    try:
        wait()
    except BaseException as error:
        raise RuntimeError("Query interrupted") from None
""",
    "a destructor, where Python drops it": """
class Handle:
    def __del__(self):
        wait()

def start():
    handle = Handle()
    del handle
    time.sleep(20)
    return 0
""",
    "a handler, where it is swallowed and work goes on to fail": """
def start():
    try:
        wait()
    except BaseException:
        pass
    raise OSError("the database is closed")
""",
}


def ends_with(start: str, number: int, times: int = 1) -> subprocess.CompletedProcess[str]:
    """Run a program, send it a signal when it is ready, and return how it ended."""
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM.format(start=start)],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=heed_signals,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    for _ in range(times):
        process.send_signal(number)
    out, error = process.communicate(timeout=15)
    return subprocess.CompletedProcess([], process.returncode, out, error)


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)],
    ids=["INT", "TERM", "HUP"],
)
@pytest.mark.parametrize("phase", PHASES.values(), ids=PHASES)
def test_a_signal_ends_a_program_with_one_line(phase: str, number: int, code: int) -> None:
    done = ends_with(phase, number)
    assert (done.returncode, done.stdout) == (code, "")
    assert done.stderr == "Interrupted; the command had not begun.\n"


def test_signals_that_come_together_are_one() -> None:
    cleaning = """
def start():
    try:
        wait()
    finally:
        time.sleep(0.3)
        print("cleaned", flush=True)
"""
    done = ends_with(cleaning, signal.SIGINT, times=3)
    assert (done.returncode, done.stdout) == (130, "cleaned\n")
    assert done.stderr.count("\n") == 1


def test_a_signal_after_the_end_shows_nothing() -> None:
    done = ends_with("import atexit; atexit.register(wait)\nstart = lambda: 0", signal.SIGINT)
    assert (done.returncode, done.stderr) == (130, "")


@pytest.mark.parametrize("number", ["SIGINT", "SIGHUP"])
def test_a_signal_that_is_ignored_stays_ignored(number: str) -> None:
    start = f"""
import signal
signal.signal(signal.{number}, signal.SIG_IGN)
def start():
    print("ready", flush=True)
    time.sleep(0.5)
    return 7
"""
    assert ends_with(start, signal.Signals[number]).returncode == 7


def test_the_signal_is_found_among_the_causes() -> None:
    with pytest.raises(RuntimeError) as caught:
        try:
            raise Stopped(signal.SIGTERM)
        except Stopped as stop:
            raise RuntimeError from stop
    assert signal_of(caught.value) == signal.SIGTERM
    assert [type(cause) for cause in causes(caught.value)] == [RuntimeError, Stopped]
    assert signal_of(ValueError()) is None


def test_what_is_left_is_worked_out_when_it_happens(tmp_path: Path) -> None:
    def kept() -> str:
        return "kept" if (tmp_path / "made").exists() else "nothing"

    with pytest.raises(KeyboardInterrupt) as caught, left_when_stopped(kept):
        (tmp_path / "made").touch()
        raise KeyboardInterrupt
    assert caught.value.__notes__ == ["kept"]
