"""Groups of sites by size.

A site of a few test patients has no interval of its own. Where a cohort has many of those, results
are stated for three groups of sites of about equal number, by their training patients.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from common.config.run_config import RunConfig
from simulation.experiments.models.scoring import cohort_windows

MANY_SITES = 12
"""Number of tested sites above which they are grouped by size."""

_GROUPS = 3

Bands = Mapping[str, tuple[str, ...]]
"""Sites of each group, by the group's name, the smallest first."""


def size_bands(config: RunConfig) -> Bands:
    """Return the tested sites of a cohort by size; empty up to `MANY_SITES` sites.

    Args:
        config: the settings; `data` and `windows.*` are read.

    Raises:
        CohortError: the cohort cannot be read.
    """
    sizes = {site: len(of.train.patient_ids) for site, of in cohort_windows(config).items()}
    return group_by_size(sizes) if len(sizes) > MANY_SITES else {}


def group_by_size(training_patients: Mapping[str, int]) -> Bands:
    """Return sites in up to three groups of about equal number; equal sizes stay together.

    Args:
        training_patients: number by site; at least one site.
    """
    sizes = np.array(list(training_patients.values()))
    steps = np.arange(1, _GROUPS) / _GROUPS
    group = np.searchsorted(np.quantile(sizes, steps, method="inverted_cdf"), sizes)
    bands: dict[str, tuple[str, ...]] = {}
    for number in np.unique(group):
        chosen = group == number
        least, most = sizes[chosen].min(), sizes[chosen].max()
        span = f"{least:,}" if least == most else f"{least:,} to {most:,}"
        unit = "training patient" if most == 1 else "training patients"
        sites = np.array(list(training_patients))[chosen].tolist()
        bands[f"sites with {span} {unit}"] = tuple(sites)
    return bands
