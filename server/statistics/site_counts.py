"""The sites' statistics as bounds: patients, patients per vital and bin, patients per hour."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from common.data.statistics.edges import EDGES, HOURS, STAY_BANDS
from common.data.statistics.reply import MOST
from common.data.vitals import VITAL_NAMES
from server.statistics.binned_counts import (
    BinnedCounts,
    CountRange,
    Floats,
    binned_counts,
    noise_of,
    quantile_for,
)
from server.statistics.thresholds import FALSE_FLAG_RATE


@dataclass(frozen=True)
class SiteCounts:
    """Statistics of S sites, in the order of their names.

    Attributes:
        names: the sites' names.
        sites: the statistics of each, see `common.statistics`.
    """

    names: tuple[str, ...]
    sites: tuple[Mapping[str, Any], ...]

    @classmethod
    def of(cls, statistics: Mapping[str, Any]) -> SiteCounts:
        """Return the sites of a statistics run."""
        names = tuple(sorted(statistics["sites"]))
        return cls(names, tuple(statistics["sites"][name] for name in names))

    @cached_property
    def chance(self) -> float:
        """Probability of chance in one comparison, so that few pages have a false flag.

        A third of `FALSE_FLAG_RATE` is for the distributions, one for missing values, one for
        noise; each vital of each site is a comparison.
        """
        return FALSE_FLAG_RATE / 3 / max(len(self.names) * len(VITAL_NAMES), 1)

    @cached_property
    def z(self) -> float:
        """Quantile of the noise that bounds every count of every site at once."""
        counts = sum(len(edges) + 1 + 2 * HOURS for edges in EDGES.values())
        return quantile_for(3 * len(self.names) * counts, FALSE_FLAG_RATE)

    @cached_property
    def patients(self) -> tuple[CountRange, ...]:
        """Bounds of each site's number of patients."""
        return tuple(self._patients(site) for site in self.sites)

    def _patients(self, site: Mapping[str, Any]) -> CountRange:
        given = site["patients"]
        # The number is one of the counts, or a sum of the stay lengths' counts.
        margin = self.z * noise_of(site, "stay_hours") * len(STAY_BANDS) ** 0.5
        if given is not None:
            # A noisy number may be below zero, and so may all of its range if the site claims it.
            return CountRange(max(given - margin, 0.0), min(max(given + margin, 0.0), MOST))
        # Without noise only: a noisy number is always given.
        return CountRange(
            max(_sum(site["vitals"][vital]["counts"]) for vital in VITAL_NAMES), np.inf
        )

    @cached_property
    def vitals(self) -> dict[str, BinnedCounts]:
        """Patients per bin of each vital's patient medians."""
        noise = [noise_of(site, "vitals") for site in self.sites]
        return {
            vital: binned_counts(
                [site["vitals"][vital]["counts"] for site in self.sites],
                [site["vitals"][vital]["patients"] for site in self.sites],
                self.patients,
                noise,
                self.z,
            )
            for vital in VITAL_NAMES
        }

    def patients_with(self, vital: str) -> tuple[Floats, Floats]:
        """Return the fewest and the most patients of each site with a value of a vital, [S]."""
        low, high = [], []
        for site, bound in zip(self.sites, self.patients, strict=True):
            given, counts = (site["vitals"][vital][key] for key in ("patients", "counts"))
            # The number is the sum of the noisy bins.
            margin = self.z * noise_of(site, "vitals") * len(counts) ** 0.5
            in_an_hour = max((n or 0 for n in site["missing"][vital]["observed"]), default=0)
            least = max(_sum(counts), in_an_hour) if given is None else given - margin
            low.append(max(least, 0.0))
            high.append(bound.high if given is None else max(given + margin, 0.0))
        return np.array(low), np.array(high)

    def hours(self, vital: str) -> tuple[Floats, Floats, Floats, Floats]:
        """Return bounds by hour: fewest and most patients with a value, fewest and most in all.

        Each is [S, 24]; the most is infinite where nothing bounds it.
        """
        observed, present = (
            np.array(
                [
                    [np.nan if n is None else n for n in site["missing"][vital][key]]
                    for site in self.sites
                ],
                dtype=float,
            ).reshape(-1, HOURS)
            for key in ("observed", "patients")
        )
        margin = self.z * np.array([noise_of(site, "missing") for site in self.sites])[:, None]
        most = np.array([bound.high for bound in self.patients])[:, None]
        present_high = np.where(np.isnan(present), most, present + margin)
        with_low = np.where(np.isnan(observed), 0.0, np.maximum(observed - margin, 0.0))
        with_high = np.where(np.isnan(observed), present_high, observed + margin)
        present_low = np.where(np.isnan(present), with_low, np.maximum(present - margin, 0.0))
        return with_low, with_high, present_low, present_high


def _sum(counts: list[float | None]) -> float:
    return float(sum(count for count in counts if count is not None))
