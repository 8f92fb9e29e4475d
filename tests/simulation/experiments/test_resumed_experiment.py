"""Killed and started again, an experiment ends in the same tables as one run through."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from simulation.experiments.output.csv import RESULTS_FILE
from tests.simulation.conftest import QUICK

REPOSITORY = Path(__file__).resolve().parents[3]


def command(backbone: Path, cohort: Path, out: Path) -> list[str]:
    settings = {**QUICK, "rounds": 3, "backbone": str(backbone)}
    pairs = [part for key, value in settings.items() for part in ("-c", f"{key}={value}")]
    return [
        *(sys.executable, "-m", "simulation", "sweep", "ranks", "--ranks", "1,2"),
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


@pytest.mark.slow
def test_a_killed_sweep_goes_on_and_ends_in_the_same_table(
    tiny_bolt: Path, tiny_cohort: Path, tmp_path: Path
) -> None:
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    subprocess.run(
        command(tiny_bolt, tiny_cohort, whole), env=environment, check=True, capture_output=True
    )
    # Killed twice: as soon as a run has its first round, and as soon as two cells are finished.
    for begun in ("runs/[!.]*/rounds.jsonl", "cells/[!.]*/cell.json"):
        process = subprocess.Popen(
            command(tiny_bolt, tiny_cohort, broken),
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        while process.poll() is None:
            if written(broken, begun) >= (1 if begun.startswith("runs") else 2):
                process.send_signal(signal.SIGKILL)
            time.sleep(0.005)
        process.wait()
        assert process.returncode == -signal.SIGKILL
        assert not (broken / "ranks").exists()
    subprocess.run(
        command(tiny_bolt, tiny_cohort, broken), env=environment, check=True, capture_output=True
    )
    assert (broken / "ranks" / RESULTS_FILE).read_bytes() == (
        whole / "ranks" / RESULTS_FILE
    ).read_bytes()
