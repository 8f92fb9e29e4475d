from __future__ import annotations

import pytest

from common.cli import run
from common.config import RunConfig
from simulation.commands import app


def test_every_key_is_listed_with_its_default(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(app, ["settings"]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    listed = {row[0]: row[1:] for row in rows if row}
    assert RunConfig().flat().keys() <= listed.keys()
    assert listed["lora.rank"][0] == "8"
