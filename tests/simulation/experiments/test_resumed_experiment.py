"""Killed and started again, an experiment ends in the same tables as one run through."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest

from common.console import run
from simulation.cli import app
from simulation.experiments.output.csv import RESULTS_FILE
from tests.simulation.conftest import QUICK


def command(backbone: Path, cohort: Path, out: Path) -> list[str]:
    settings = {**QUICK, "rounds": 3, "backbone": str(backbone)}
    pairs = [part for key, value in settings.items() for part in ("-c", f"{key}={value}")]
    return [
        *("sweep", "ranks", "--ranks", "1,2"),
        *("--data", str(cohort), "--out", str(out), "--seeds", "0"),
        *pairs,
    ]


def written(folder: Path, pattern: str) -> int:
    """Count the files with something in them, in a folder that another process works in.

    Zero where one was taken away before it was looked at: the next look tells.
    """
    try:
        return sum(file.stat().st_size > 0 for file in folder.glob(pattern))
    except FileNotFoundError:
        return 0


def killed(words: list[str], folder: Path, pattern: str, count: int) -> bool:
    """Run a command in a process of its own; kill it once so many files are written."""
    # Forked: a new interpreter would import for longer than the command takes.
    process = multiprocessing.get_context("fork").Process(target=run, args=(app, words))
    process.start()
    while process.is_alive():
        if written(folder, pattern) >= count:
            assert process.pid is not None
            os.kill(process.pid, signal.SIGKILL)
            break
        time.sleep(0.005)
    process.join()
    return process.exitcode == -signal.SIGKILL


@pytest.mark.slow
@pytest.mark.usefixtures("figures_undrawn")
def test_a_killed_sweep_goes_on_and_ends_in_the_same_table(
    tiny_bolt: Path, tiny_cohort: Path, tmp_path: Path
) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert run(app, command(tiny_bolt, tiny_cohort, whole)) == 0
    words = command(tiny_bolt, tiny_cohort, broken)
    # Killed twice: as soon as a run has its first round, and as soon as two cells are finished.
    for begun, count in (("runs/[!.]*/rounds.jsonl", 1), ("cells/[!.]*/cell.json", 2)):
        assert killed(words, broken, begun, count)
        assert not (broken / "ranks").exists()
    assert run(app, words) == 0
    assert (broken / "ranks" / RESULTS_FILE).read_bytes() == (
        whole / "ranks" / RESULTS_FILE
    ).read_bytes()
