"""Real Flower with real processes: Ray's actors, a SuperLink, and the command `flwr` itself."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from common.adapter.peft_io import load_peft_folder
from common.config.run_config import (
    FederationConfig,
    LoraConfig,
    RunConfig,
    TrainConfig,
    WindowConfig,
)
from common.errors import FederationError
from common.files.paths import use_cohort
from server.runs.run_folder import read_rounds
from simulation.run import federate
from tests.samples.ports import free_ports

pytestmark = pytest.mark.slow
REPOSITORY = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).absolute().parent


@pytest.fixture
def config(tiny_bolt: Path, tiny_cohort: Path, tmp_path: Path) -> RunConfig:
    return RunConfig(
        backbone=str(tiny_bolt),
        data=str(tiny_cohort),
        out=str(tmp_path / "run"),
        rounds=2,
        lora=LoraConfig(rank=2),
        windows=WindowConfig(context=24),
        train=TrainConfig(steps=3, batch=16),
        federation=FederationConfig(min_sites=3, wait_s=120.0, round_timeout_s=120.0),
    )


def test_both_engines_end_in_the_same_bytes(config: RunConfig, tmp_path: Path) -> None:
    federate(config, "ray")
    in_process = config.replace(out=str(tmp_path / "in-process"))
    federate(in_process, "inprocess")
    ours, theirs = (
        load_peft_folder(Path(one.out) / "adapter").digest() for one in (config, in_process)
    )
    assert ours == theirs
    digests = [
        [entry.get("adapter_digest") for entry in read_rounds(Path(one.out))]
        for one in (config, in_process)
    ]
    assert digests[0] == digests[1]
    assert len(digests[0]) == 3


def test_a_failed_run_fails_here_too(config: RunConfig) -> None:
    # Flower's own command reports success; the engine asks how the run ended.
    with pytest.raises(FederationError, match=r"ended as finished:failed.*at most 12 steps"):
        federate(config.replace(windows=config.windows.replace(horizon=13)), "ray")
    assert not (Path(config.out) / "adapter").exists()


def test_plain_flwr_run_needs_nothing_but_a_prepared_cohort(
    config: RunConfig, tiny_cohort: Path, tmp_path: Path
) -> None:
    use_cohort(tiny_cohort)
    http, control = free_ports(2)
    environment = {
        **os.environ,
        "PATH": os.pathsep.join([str(BIN), os.environ["PATH"]]),
        "FLWR_HOME": str(tmp_path / "flwr"),
        "FLWR_LOCAL_SUPERLINK_HTTP_API_PORT": str(http),
        "FLWR_LOCAL_CONTROL_API_PORT": str(control),
    }
    settings = f'backbone="{config.backbone}" rounds=1 lora.rank=2 train.steps=3 windows.context=24'
    try:
        result = subprocess.run(
            [str(BIN / "flwr"), "run", ".", "--stream", "-c", settings],
            cwd=REPOSITORY,
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
    finally:
        # The SuperLink that Flower starts stays; its port tells it from any other.
        subprocess.run(["pkill", "-f", f"flower-superlink.*--port {http}"], check=False)
    log = re.sub(r"\x1b\[[0-9;]*m", "", result.stdout + result.stderr)
    assert "round 1 of 1: 3 of 3 sites" in log, log[-3000:]
    runs = list((Path(os.environ["FEDVITALS_HOME"]) / "runs").iterdir())
    assert len(runs) == 1
    assert load_peft_folder(runs[0] / "adapter").is_finite()
    assert (runs[0] / "report.html").is_file()
