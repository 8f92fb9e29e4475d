"""The test patients of every site, forecast and scored with all metrics."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch

from common.evaluation.evaluate import Evaluation, Forecaster, evaluate
from common.evaluation.metrics import METRICS
from simulation.experiments.cell_cache import without_names
from simulation.experiments.models.cohort_windows import SiteWindows


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
