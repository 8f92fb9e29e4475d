from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from client.app.node_config import read_node_settings
from common.config.run_config import RunConfig
from common.errors import UsageError
from common.files.paths import home


def test_a_hospitals_settings_are_read() -> None:
    node = {
        "data-path": "/data/site.parquet",
        "site-id": "north",
        "state-path": "/var/lib/site",
        "lora-rank": 4,
        "epsilon-limit": 8.0,
        "patients": 120,
        "allow": "loss, validation.*",
    }
    settings = read_node_settings(node, RunConfig(), "17")
    assert settings.data_path == Path("/data/site.parquet")
    assert (settings.site_id, settings.lora_rank, settings.epsilon_limit) == ("north", 4, 8.0)
    assert settings.patients == 120
    assert settings.allow == "loss, validation.*"
    assert settings.state_path == Path("/var/lib/site")
    assert not settings.simulated
    assert settings.nodes == 0


def test_a_hospitals_state_outlives_its_runs_and_a_simulated_one_lies_in_its_run() -> None:
    # The run's settings come from the server: they must not choose where a hospital writes.
    config = RunConfig(out="/elsewhere/run")
    assert read_node_settings({"data-path": "t"}, config, "17").state_path == home() / "site"
    simulated = {"partition-id": 0, "num-partitions": 3}
    assert read_node_settings(simulated, config, "17").state_path == Path("/elsewhere/run/site")
    unnamed = read_node_settings(simulated, RunConfig(), "17")
    assert unnamed.state_path == home() / "runs" / "17" / "site"
    assert (unnamed.simulated, unnamed.place, unnamed.nodes) == (True, 0, 3)


@pytest.mark.parametrize(
    ("node", "reason"),
    [
        ({}, "no data-path; set it to the site table"),
        ({"data-path": "t", "lora-rnak": 4}, "did you mean 'lora-rank'"),
        ({"data-path": "t", "lora-rank": 2.5}, "a whole number, got 2.5"),
        ({"data-path": "t", "patients": 20.5}, "patients must be a whole number, got 20.5"),
        ({"data-path": "t", "patients": -1}, "patients must be at least 0, got -1"),
        ({"data-path": "t", "lora-rank": -1}, "lora-rank must be from 0 to 1,024, got -1"),
        ({"data-path": "t", "epsilon-limit": "much"}, "epsilon-limit must be a number"),
        ({"data-path": "t", "epsilon-limit": float("inf")}, "epsilon-limit must be a number"),
    ],
)
def test_settings_that_cannot_be_are_refused(node: dict[str, Any], reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        read_node_settings(node, RunConfig(), "17")
