"""What the server's app says before a simulated run."""

from __future__ import annotations

from pathlib import Path

import pytest
from flwr.simulation import run_simulation
from flwr.superlink.grid import InMemoryGrid

from common.config.run_config import RunConfig
from common.errors import CohortError
from common.files.paths import use_cohort
from server.server_app import SIMULATED_GRID, simulated_cohort


def test_a_simulation_says_which_cohort_it_takes_and_why(tiny_cohort: Path) -> None:
    use_cohort(tiny_cohort)
    last = f"cohort: {tiny_cohort} (synthetic, 3 sites), the one prepared last; "
    assert simulated_cohort(RunConfig()).startswith(last)
    named = RunConfig(data=str(tiny_cohort))
    assert simulated_cohort(named) == f"cohort: {tiny_cohort} (synthetic, 3 sites), named by data"


def test_a_simulation_without_a_cohort_ends_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(CohortError, match="holds no cohort"):
        simulated_cohort(RunConfig(data=str(tmp_path)))


def test_flower_simulates_with_the_grid_of_that_name() -> None:
    assert InMemoryGrid.__name__ == SIMULATED_GRID
    assert run_simulation.__globals__["InMemoryGrid"] is InMemoryGrid
