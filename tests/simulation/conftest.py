from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from common.config.run_config import RunConfig, Value
from common.console import run
from simulation.cli import app

QUICK: dict[str, Value] = {
    "rounds": 1,
    "lora.rank": 2,
    "lora.alpha": 4.0,
    "windows.context": 24,
    "windows.vitals": "heart_rate,mbp",
    "train.steps": 2,
}


@pytest.fixture
def quick(tiny_bolt: Path, tiny_cohort: Path) -> RunConfig:
    """Settings of a run of a second or two."""
    return RunConfig.parse({**QUICK, "backbone": str(tiny_bolt), "data": str(tiny_cohort)})


@pytest.fixture
def experiment_command(tiny_bolt: Path, tiny_cohort: Path, tmp_path: Path) -> Callable[..., int]:
    """Runs `python -m simulation ...` in small, into the folder `tmp_path / "out"`."""

    def call(*words: str, seeds: str = "0") -> int:
        settings = {**QUICK, "backbone": str(tiny_bolt)}
        pairs = [part for key, value in settings.items() for part in ("-c", f"{key}={value}")]
        places = ["--data", str(tiny_cohort), "--out", str(tmp_path / "out")]
        return run(app, [*words, *places, "--seeds", seeds, *pairs])

    return call
