"""Windows of a cohort by site and split, and the scores of its test patients."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch

from common.config.run_config import RunConfig, WindowConfig
from common.config.step_length import check_cohort_steps
from common.data.cohort_folder import site_table_paths
from common.data.site_table import read_site_table
from common.data.splits import SPLITS
from common.data.windows import Windows, pool_windows, windows_by_split
from common.errors import CohortError
from common.evaluation.evaluate import Evaluation, Forecaster, evaluate
from common.evaluation.evaluate_sites import evaluate_sites
from common.evaluation.metrics import METRICS
from simulation.experiments.cell_cache import without_names

POOLED = "pooled"
"""Name of all sites' patients put together."""


@dataclass(frozen=True, eq=False)
class SiteWindows:
    """A site's windows of the three splits."""

    train: Windows
    validation: Windows
    test: Windows


def cohort_windows(config: RunConfig, tested: str = "") -> dict[str, SiteWindows]:
    """Return the windows of every site that has both training and test windows.

    Args:
        config: the settings; `data` and `windows.*` are read.
        tested: a cohort to use instead of `config.data`; empty = unset.

    Raises:
        CohortError: no site has both.
        UsageError: the cohort's steps are not those that the settings name.
    """
    data = Path(tested or config.data)
    usable = {
        name: site
        for name, site in _windows_of(data, config).items()
        if len(site.train) and len(site.test)
    }
    if not usable:
        raise CohortError(
            f"{data} has no site with both training and test windows; its stays are too short "
            "or too sparse for windows.*"
        )
    return usable


def training_windows(config: RunConfig) -> dict[str, SiteWindows]:
    """Return the windows of every site that a federation trains on, tested or not.

    A small hospital may have no test patient. It trains in the federation, so it belongs to the
    pooled data as well.

    Args:
        config: the settings; `data` and `windows.*` are read.

    Raises:
        CohortError: no site has training windows.
        UsageError: the cohort's steps are not those that the settings name.
    """
    data = Path(config.data)
    usable = {name: site for name, site in _windows_of(data, config).items() if len(site.train)}
    if not usable:
        raise CohortError(
            f"{data} has no site with training windows; its stays are too short or too sparse for "
            "windows.*"
        )
    return usable


def _windows_of(data: Path, config: RunConfig) -> dict[str, SiteWindows]:
    times = tuple(path.stat().st_mtime_ns for path in site_table_paths(data).values())
    sites, steps = _read(data, times, config.windows)
    for step_minutes in steps:
        check_cohort_steps(step_minutes, config, str(data))
    return sites


@lru_cache(maxsize=2)
def _read(
    data: Path, _times: tuple[int, ...], windows: WindowConfig
) -> tuple[dict[str, SiteWindows], set[int]]:
    """Return the windows by site, and the lengths of the tables' steps in minutes."""
    settings, vitals = windows.settings(), windows.names()
    sites, steps = {}, set()
    for name, path in site_table_paths(data).items():
        table = read_site_table(path)
        steps.add(table.info.step_minutes)
        sites[name] = SiteWindows(**windows_by_split(table, SPLITS, settings, vitals))
    return sites, steps


def pooled_windows(sites: dict[str, SiteWindows]) -> SiteWindows:
    """Return all sites' windows together, for centralised training."""
    return SiteWindows(
        **{
            split: pool_windows({name: getattr(site, split) for name, site in sites.items()})
            for split in SPLITS
        }
    )


def score_sites(
    sites: Mapping[str, SiteWindows], forecaster: Callable[[str, SiteWindows], Forecaster]
) -> dict[str, Evaluation]:
    """Score the test windows of every site with a forecaster of its own.

    Args:
        sites: the windows.
        forecaster: returns a site's forecaster from its name and windows.
    """
    return {
        name: without_names(
            evaluate(site.test, forecaster(name, site), metrics=tuple(METRICS)),
        )
        for name, site in sites.items()
    }


def score_model(sites: Mapping[str, SiteWindows], model: Forecaster) -> dict[str, Evaluation]:
    """Score the test windows of every site with one model, in batches across the sites."""
    windows = {name: site.test for name, site in sites.items()}
    scores = evaluate_sites(windows, model, metrics=tuple(METRICS))
    return {name: without_names(score) for name, score in scores.items()}


def forecast_device() -> torch.device:
    """Return the device for forecasts: a GPU if there is one. `mps` lacks some operations."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
