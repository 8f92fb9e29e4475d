"""Last value and weighted mean, each with the spread of its errors at the site's own patients."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from common.evaluation.baselines import Baseline, ExponentiallyWeightedMean, LastValue
from simulation.experiments.cell_cache import Cell, Outcome
from simulation.experiments.models.cohort_windows import cohort_windows
from simulation.experiments.models.scoring import score


def last_value(cell: Cell, _run: Path, _say: Callable[[str], None]) -> Outcome:
    """Score the last observed value."""
    return _fitted(cell, LastValue())


def exponential_mean(cell: Cell, _run: Path, _say: Callable[[str], None]) -> Outcome:
    """Score the exponentially weighted mean."""
    return _fitted(cell, ExponentiallyWeightedMean())


def _fitted(cell: Cell, baseline: Baseline) -> Outcome:
    sites = cohort_windows(cell.config)
    return Outcome(score(sites, lambda _, site: baseline.fit(site.train)))
