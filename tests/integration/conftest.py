"""A coordinator and its sites for the tests of real processes, once a module."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from common.config.run_config import (
    FederationConfig,
    LoraConfig,
    RunConfig,
    TrainConfig,
    WindowConfig,
)
from tests.integration.setup.deployed import Coordinator, Site, admit, make_coordinator, make_site

SITES = ("ccu", "micu")


@pytest.fixture(scope="module")
def site_names() -> tuple[str, ...]:
    """The sites that take part; a module may have others."""
    return SITES


@pytest.fixture(scope="module")
def deployed_cohort(
    site_names: tuple[str, ...], tiny_cohort: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Those of the cohort's sites that take part, for the simulation to compare with."""
    folder = tmp_path_factory.mktemp("deployed-cohort")
    (folder / "sites").mkdir()
    for name in site_names:
        shutil.copy(tiny_cohort / "sites" / f"{name}.parquet", folder / "sites")
    record = {"schema_version": 1, "sites": {name: {} for name in site_names}}
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


@pytest.fixture(scope="module")
def address() -> str:
    """Address of the coordinator for the sites' nodes; empty = the SuperLink itself."""
    return ""


@pytest.fixture(scope="module")
def sites(
    coordinator: Coordinator,
    site_names: tuple[str, ...],
    deployed_cohort: Path,
    tiny_bolt: Path,
    address: str,
) -> Iterator[dict[str, Site]]:
    """Sites whose nodes and apps run, provisioned by deploy/certs alone."""
    sites = {}
    with ExitStack() as stack:
        for name in site_names:
            table = deployed_cohort / "sites" / f"{name}.parquet"
            sites[name] = make_site(coordinator, name, table, tiny_bolt, address)
            admit(coordinator, sites[name])
            stack.enter_context(sites[name].started())
        yield sites


@pytest.fixture
def deployed_run(tiny_bolt: Path, tmp_path: Path) -> RunConfig:
    """A run of three rounds in which two sites have to take part."""
    return RunConfig(
        backbone=str(tiny_bolt),
        out=str(tmp_path / "run"),
        rounds=3,
        lora=LoraConfig(rank=2),
        windows=WindowConfig(context=24),
        train=TrainConfig(steps=3, batch=16),
        federation=FederationConfig(min_sites=2, wait_s=120.0, round_timeout_s=120.0),
    )
