from __future__ import annotations

from pathlib import Path

import pytest

from common.config.run_config import RunConfig
from common.console import run
from simulation.cli import app

REPOSITORY = Path(__file__).resolve().parents[3]


def test_every_key_is_listed_with_its_default(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(app, ["settings"]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    listed = {row[0]: row[1:] for row in rows if row}
    assert RunConfig().flat().keys() <= listed.keys()
    assert listed["lora.rank"][0] == "8"


def test_the_page_of_the_reference_is_made_from_the_code(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(app, ["settings", "--markdown"]) == 0
    page = capsys.readouterr().out
    kept = REPOSITORY / "docs" / "reference" / "settings.md"
    assert kept.read_text() == page, (
        f"make it anew: python -m simulation settings --markdown > {kept}"
    )
    rows = [line for line in page.splitlines() if line.startswith("| `")]
    assert len(rows) == len(RunConfig().flat())
    assert all(line.count(" | ") == 3 for line in rows)
