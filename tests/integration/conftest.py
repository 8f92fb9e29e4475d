"""A coordinator and a cohort of two sites for the tests of real processes, once a module."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from common.config import FederationConfig, LoraConfig, RunConfig, TrainConfig, WindowConfig
from tests.integration.deployed import Coordinator, make_coordinator

SITES = ("ccu", "micu")


@pytest.fixture(scope="module")
def two_sites(tiny_cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The two of the cohort's sites that take part, for the simulation to compare with."""
    folder = tmp_path_factory.mktemp("two-sites")
    (folder / "sites").mkdir()
    for name in SITES:
        shutil.copy(tiny_cohort / "sites" / f"{name}.parquet", folder / "sites")
    record = {"schema_version": 1, "sites": {name: {} for name in SITES}}
    (folder / "cohort.json").write_text(json.dumps(record))
    return folder


@pytest.fixture(scope="module")
def coordinator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Coordinator]:
    """A coordinator whose services run."""
    coordinator = make_coordinator(tmp_path_factory.mktemp("deployed"))
    coordinator.call("start", "--background")
    try:
        yield coordinator
    finally:
        coordinator.call("stop")


@pytest.fixture
def deployed_run(tiny_bolt: Path, tmp_path: Path) -> RunConfig:
    """A run of three rounds in which both sites have to take part."""
    return RunConfig(
        backbone=str(tiny_bolt),
        out=str(tmp_path / "run"),
        rounds=3,
        lora=LoraConfig(rank=2),
        windows=WindowConfig(context=24),
        train=TrainConfig(steps=3, batch=16),
        federation=FederationConfig(min_sites=2, wait_s=120.0, round_timeout_s=120.0),
    )
