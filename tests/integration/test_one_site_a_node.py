"""A node with a good key that calls itself another hospital, at a real SuperLink."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from common.config.run_config import RunConfig
from tests.integration.conftest import SITES
from tests.integration.setup.deployed import Coordinator, Site, approve, make_site, usable
from tests.integration.setup.processes import finish, wait_for

pytestmark = pytest.mark.slow


def test_a_name_is_its_keys_own(
    coordinator: Coordinator,
    sites: dict[str, Site],
    deployed_run: RunConfig,
    tiny_cohort: Path,
    tiny_bolt: Path,
) -> None:
    table = tiny_cohort / "sites" / "ccu.parquet"
    impostor = make_site(coordinator, "impostor", table, tiny_bolt)
    public_key = str(coordinator.authority / "issued" / "impostor" / "node.pub")
    coordinator.call("sites", "add", "impostor", public_key)
    impostor.name = "ccu"
    impostor.configure(tiny_bolt)
    approve(coordinator, impostor)
    with impostor.started():
        wait_for(
            "all are there",
            lambda: set(coordinator.status()["sites"].values()) == {"online"},
        )
        code, said = finish(coordinator.start_run(deployed_run))
    assert code == 0, said
    folder = Path(deployed_run.out)
    assert usable(folder) == [set(SITES)] * 4
    record = json.loads((folder / "config.json").read_text())
    assert list(record["sites"]) == sorted(SITES)
    assert "its key is registered as 'impostor'" in record["sites_refused"]["impostor"]
    # Who started it stands in the run's own record, and was said.
    (operator,) = record["operators"]
    assert f"started by {operator}" in said
    assert operator == (coordinator.folder / "home" / "operator").read_text().split(".")[0]
