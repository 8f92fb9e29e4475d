"""An evaluated run, read, for the tests of the report's sections."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from common.adapter.adapter import Adapter
from server.runs.run_reader import RunRecord


@pytest.fixture
def record(
    evaluated_run: Path,
    trained_adapter: Adapter,
    run_config: dict[str, Any],
    run_rounds: list[dict[str, Any]],
) -> RunRecord:
    """The evaluated run, read, for a test to change."""
    evaluation = json.loads((evaluated_run / "evaluation.json").read_text())
    return RunRecord(trained_adapter, 2, run_config, run_rounds, evaluation)
