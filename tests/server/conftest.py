"""Trained adapter and run folders like those of a federation, made without running one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from common.adapter.adapter import Adapter
from tests.samples.run_folders import random_adapter, run_config_of, run_rounds_of, write_run

MakeRun = Callable[..., Path]


@pytest.fixture(scope="session")
def trained_adapter(tiny_bolt: Path) -> Adapter:
    """An adapter on the tiny backbone with random A and B, which changes its forecasts."""
    return random_adapter(tiny_bolt)


@pytest.fixture
def run_config(tiny_bolt: Path, trained_adapter: Adapter) -> dict[str, Any]:
    """A config.json of three sites, one more refused."""
    return run_config_of(tiny_bolt, trained_adapter)


@pytest.fixture
def run_rounds() -> list[dict[str, Any]]:
    """Two rounds and the last validation; sicu is refused in round 2 and never validates."""
    return run_rounds_of()


@pytest.fixture
def make_run(
    tmp_path: Path,
    trained_adapter: Adapter,
    run_config: dict[str, Any],
    run_rounds: list[dict[str, Any]],
) -> MakeRun:
    """Write and release a run folder, with other settings or rounds where given."""

    def make(
        name: str = "run",
        config: dict[str, Any] | None = None,
        rounds: list[dict[str, Any]] | None = None,
        adapter: Adapter | None = None,
        best_round: int = 2,
    ) -> Path:
        lines = run_rounds if rounds is None else rounds
        folder = tmp_path / name
        write_run(folder, config or run_config, lines, adapter or trained_adapter, best_round)
        return folder

    return make


@pytest.fixture(scope="session")
def evaluated_run(
    tmp_path_factory: pytest.TempPathFactory,
    tiny_bolt: Path,
    tiny_cohort: Path,
    trained_adapter: Adapter,
) -> Path:
    """A run folder, released and evaluated; for tests that only read it."""
    from server.release.evaluation import evaluate_run

    folder = tmp_path_factory.mktemp("evaluated") / "run"
    write_run(
        folder, run_config_of(tiny_bolt, trained_adapter), run_rounds_of(), trained_adapter, 2
    )
    evaluate_run(folder, tiny_cohort)
    return folder
