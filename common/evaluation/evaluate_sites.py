"""Evaluation of one forecaster on the windows of many sites, in batches across the sites.

A hospital of a large cohort has some dozens of windows. A batch of these alone takes most of its
time for the calls around it. Here the forecaster sees full batches, whatever the number of sites.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from common.data.windows import Windows, pool_windows
from common.errors import UsageError
from common.evaluation.evaluate import DEFAULT_METRICS, Evaluation, Forecaster, evaluate

BATCH_SIZE = 512
_POOLED_BATCHES = 16
"""Batches that are pooled at a time: pooling copies windows, and memory must stay flat."""


def evaluate_sites(
    sites: Mapping[str, Windows],
    forecaster: Forecaster,
    *,
    batch_size: int = BATCH_SIZE,
    metrics: Sequence[str] = DEFAULT_METRICS,
) -> dict[str, Evaluation]:
    """Forecast the windows of all sites in common batches and score them site by site.

    A batch has nearly as many windows as every other one, since matrices of less than some sixteen
    rows are multiplied by other routines, whose sums differ in the last digit.

    Args:
        sites: the windows of each site by its name, all of the same C and H.
        forecaster: one model for all sites.
        batch_size: most windows per call of the forecaster.
        metrics: names of `common.evaluation.metrics.METRICS`.

    Returns:
        The totals per patient and vital of each site, as `evaluate` of the site alone gives them.

    Raises:
        UsageError: an unknown metric, a batch size below 1, or windows of different lengths.
        ForecastError: as in `evaluate`.
    """
    if batch_size < 1:
        raise UsageError(f"batch_size must be at least 1, got {batch_size}")
    found: dict[str, Evaluation] = {}
    for names in _groups(sites, _POOLED_BATCHES * batch_size):
        pooled = pool_windows({name: sites[name] for name in names})
        size = _even_size(len(pooled), batch_size)
        together = evaluate(pooled, forecaster, batch_size=size, metrics=metrics)
        start = 0
        for name in names:
            end = start + len(sites[name].patient_ids)
            found[name] = _patients(together, start, end, sites[name].patient_ids)
            start = end
    return found


def _groups(sites: Mapping[str, Windows], windows: int) -> Iterator[list[str]]:
    """Yield successive sites that together have at least so many windows; the last ones may not."""
    names: list[str] = []
    held = 0
    for name, site in sites.items():
        names.append(name)
        held += len(site)
        if held >= windows:
            yield names
            names, held = [], 0
    if names:
        yield names


def _even_size(windows: int, most: int) -> int:
    """Return the size of batches of nearly one size, none above `most`."""
    batches = max(1, math.ceil(windows / most))
    return max(1, math.ceil(windows / batches))


def _patients(together: Evaluation, start: int, end: int, names: tuple[str, ...]) -> Evaluation:
    """Return the evaluation of some successive patients, under their names at their site."""
    rows = slice(start, end)
    return replace(
        together,
        patient_ids=names,
        numerator=together.numerator[rows],
        denominator=together.denominator[rows],
        windows=together.windows[rows],
        observed=together.observed[rows],
        below=None if together.below is None else together.below[rows],
    )
