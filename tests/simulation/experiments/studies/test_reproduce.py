from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.mark.slow
def test_every_experiment_is_conducted_and_linked(
    experiment_command: Callable[..., int], tmp_path: Path
) -> None:
    assert experiment_command("reproduce") == 0
    folder = tmp_path / "out" / "reduced"
    page = (folder / "index.html").read_text(encoding="utf-8")
    for name in ("compare", "aggregation", "ranks", "sites", "privacy", "backbones"):
        assert f'href="{name}/index.html"' in page
        assert (folder / name / "results.csv").is_file()
        table = (folder / name / "table.md").read_text(encoding="utf-8")
        assert "python -m simulation" in table
    # What one experiment has trained, another reads: FedAvg with the defaults is in four of them.
    tables = [path.read_text(encoding="utf-8") for path in folder.glob("*/table.md")]
    assert sum("| LoRA, federated |" in table for table in tables) == 1
    runs = len(list((folder / "runs").iterdir()))
    arms = sum(table.count("\n| ") for table in tables)
    assert runs < arms
