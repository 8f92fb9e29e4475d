"""The test patients of every site, forecast and scored with all metrics.

The windows of a cohort by site and split, as sites and release cut them.
"""

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
from common.evaluation.metrics import METRICS
from simulation.experiments.cell_cache import without_names

POOLED = "pooled"
"""The name of all sites' patients put together."""


@dataclass(frozen=True, eq=False)
class SiteWindows:
    """A site's windows of the three splits."""

    train: Windows
    validation: Windows
    test: Windows


def cohort_windows(config: RunConfig, tested: str = "") -> dict[str, SiteWindows]:
    """Return the windows of every site that has any to train on and to be tested on.

    Args:
        config: the settings; `data` and `windows.*` are read.
        tested: a cohort to take in the place of `config.data`, if not empty.

    Raises:
        CohortError: where no site is left.
    """
    data = Path(tested or config.data)
    times = tuple(path.stat().st_mtime_ns for path in site_table_paths(data).values())
    sites = _read(data, times, config.windows)
    usable = {name: site for name, site in sites.items() if len(site.train) and len(site.test)}
    if not usable:
        raise CohortError(
            f"{data} has no site with windows both to train on and to be tested on; its stays are "
            "too short or too sparse for windows.*"
        )
    return usable


def pooled_windows(sites: dict[str, SiteWindows]) -> SiteWindows:
    """Put all sites together, as centralised training would have them."""
    return SiteWindows(
        **{
            split: pool_windows({name: getattr(site, split) for name, site in sites.items()})
            for split in SPLITS
        }
    )


@lru_cache(maxsize=2)
def _read(data: Path, _times: tuple[int, ...], windows: WindowConfig) -> dict[str, SiteWindows]:
    settings, vitals = windows.settings(), windows.names()
    return {
        name: SiteWindows(**windows_by_split(read_site_table(path), SPLITS, settings, vitals))
        for name, path in site_table_paths(data).items()
    }


def score(
    sites: Mapping[str, SiteWindows], forecaster: Callable[[str, SiteWindows], Forecaster]
) -> dict[str, Evaluation]:
    """Score the test windows of every site.

    Args:
        sites: the windows.
        forecaster: gives the forecaster of a site, from its name and windows.
    """
    return {
        name: without_names(
            evaluate(site.test, forecaster(name, site), metrics=tuple(METRICS)),
        )
        for name, site in sites.items()
    }


def forecast_device() -> torch.device:
    """Return where models forecast: `mps` lacks operations of some families."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
