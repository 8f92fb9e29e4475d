"""Windows of a cohort by site and split, and the scores of its test patients."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch

from common.config.run_config import RunConfig, WindowConfig
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
    """
    data = Path(tested or config.data)
    times = tuple(path.stat().st_mtime_ns for path in site_table_paths(data).values())
    sites = _read(data, times, config.windows)
    usable = {name: site for name, site in sites.items() if len(site.train) and len(site.test)}
    if not usable:
        raise CohortError(
            f"{data} has no site with both training and test windows; its stays are too short "
            "or too sparse for windows.*"
        )
    return usable


@lru_cache(maxsize=2)
def _read(data: Path, _times: tuple[int, ...], windows: WindowConfig) -> dict[str, SiteWindows]:
    settings, vitals = windows.settings(), windows.names()
    return {
        name: SiteWindows(**windows_by_split(read_site_table(path), SPLITS, settings, vitals))
        for name, path in site_table_paths(data).items()
    }


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
