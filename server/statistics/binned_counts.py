"""Counts of patients per bin at several sites, and the bounds that they allow.

A suppressed count is a number between bounds, never 0. Each quantity derived from counts is
therefore an interval: the smallest and the largest value over all ways to fill the suppressed bins.
Under noise the interval is widened by the noise's quantile.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class CountRange:
    """A number between two bounds; `high` may be infinite."""

    low: float
    high: float


@dataclass(frozen=True)
class BinnedCounts:
    """Counts of S sites in B bins.

    Attributes:
        known: the counts, 0 where suppressed; may be below 0 under noise, [S, B].
        hidden: which counts are suppressed, [S, B].
        least: fewest patients in a site's suppressed bins together, [S].
        most: most patients in them; infinite where nothing bounds them, [S].
        fewest: fewest patients of a site in all bins, noise included, [S].
        noise: standard deviation of the noise in each count, 0 without, [S].
        z: quantile of the noise, in standard deviations.
    """

    known: Floats
    hidden: Flags
    least: Floats
    most: Floats
    fewest: Floats
    noise: Floats
    z: float

    @property
    def shown(self) -> Floats:
        """Patients in the bins that are not suppressed, [S]."""
        return np.asarray(self.known.sum(axis=1))

    @property
    def total(self) -> Floats:
        """Likely patients of each site: those shown, and the middle of the suppressed, [S]."""
        bounded = np.isfinite(self.most)
        return np.asarray(self.shown + np.where(bounded, (self.least + self.most) / 2, self.least))

    def cumulative(self) -> tuple[Floats, Floats]:
        """Return the least and the largest share of patients below each inner edge, [S, B - 1].

        Bounds without noise; 0 and 1 where a site shows nothing.
        """
        below = np.cumsum(self.known, axis=1)[:, :-1]
        hidden_below = np.cumsum(self.hidden, axis=1)[:, :-1] > 0
        hidden_above = np.cumsum(self.hidden[:, ::-1], axis=1)[:, ::-1][:, 1:] > 0
        least, most, shown = (x[:, None] for x in (self.least, self.most, self.shown))
        low = np.where(
            hidden_above,
            _share(below, shown + most),
            # Where all suppressed bins are below, few of them make the share small.
            _share(below + hidden_below * least, shown + least),
        )
        added = np.where(hidden_below, most, 0.0)
        high = np.where(
            hidden_below,
            np.where(np.isinf(added), 1.0, _share(below + added, shown + most, 1.0)),
            _share(below, shown + least, 1.0),
        )
        return np.clip(low, 0.0, 1.0), np.clip(high, 0.0, 1.0)

    def noise_margin(self) -> Floats:
        """Return how far noise may move each cumulative share, [S, B - 1]; infinite for no data."""
        bins = self.known.shape[1]
        below = np.arange(1, bins)
        total = self.fewest[:, None]
        middle = np.clip(_share(np.cumsum(self.known, axis=1)[:, :-1], self.shown[:, None]), 0, 1)
        # The share is a quotient C_k / C_B; its error is (e_k - F e_B) / C_B.
        spread = np.sqrt(below * (1 - middle) ** 2 + (bins - below) * middle**2)
        with np.errstate(divide="ignore", invalid="ignore"):
            margin = self.z * self.noise[:, None] * spread / total
        return np.where(self.noise[:, None] > 0, np.where(total > 0, margin, np.inf), 0.0)

    def median_bins(self) -> npt.NDArray[np.int64]:
        """Return the first and the last bin in which each site's median may be, [S, 2]."""
        low, high = self.cumulative()
        margin = self.noise_margin()
        bins = self.known.shape[1]

        def first(reached: Flags) -> npt.NDArray[np.int64]:
            return np.asarray(np.where(reached.any(axis=1), reached.argmax(axis=1), bins - 1))

        return np.stack([first(high + margin >= 0.5), first(low - margin >= 0.5)], axis=1)

    def least_in(self, chosen: Flags) -> Floats:
        """Return the fewest patients of each site in chosen bins, [S].

        Args:
            chosen: [S, B].
        """
        counted = (self.known * chosen).sum(axis=1)
        noise = self.z * self.noise * np.sqrt(chosen.sum(axis=1))
        all_hidden_chosen = ~(self.hidden & ~chosen).any(axis=1)
        hidden = np.where(all_hidden_chosen, self.least, 0.0)
        return np.asarray(np.maximum(counted - noise + hidden, 0.0))

    def most_in(self, chosen: Flags) -> Floats:
        """Return the most patients of each site in chosen bins, [S]."""
        counted = (self.known * chosen).sum(axis=1)
        noise = self.z * self.noise * np.sqrt(chosen.sum(axis=1))
        any_hidden_chosen = (self.hidden & chosen).any(axis=1)
        return np.asarray(counted + noise + np.where(any_hidden_chosen, self.most, 0.0))


def quantile_for(comparisons: int, rate: float) -> float:
    """Return the normal quantile that all of a number of comparisons exceed at most at `rate`."""
    return NormalDist().inv_cdf(1 - rate / (2 * max(comparisons, 1)))


def binned_counts(
    counts: Sequence[Sequence[float | None]],
    totals: Sequence[float | None],
    bounds: Sequence[CountRange],
    noise: Sequence[float],
    z: float,
) -> BinnedCounts:
    """Return the counts of several sites.

    Args:
        counts: of each site, one number a bin; None = suppressed.
        totals: sum of each site's counts; None = suppressed.
        bounds: of each site's number of patients, which no total exceeds.
        noise: standard deviation of each site's noise.
        z: quantile of the noise.
    """
    array = np.array([[np.nan if n is None else n for n in row] for row in counts], dtype=float)
    array = array.reshape(len(counts), -1)
    hidden = np.isnan(array)
    known = np.where(hidden, 0.0, array)
    shown, deviation = known.sum(axis=1), np.asarray(noise, dtype=float)
    margin = z * deviation * math.sqrt(array.shape[1] + 1)
    total = np.array([np.nan if n is None else n for n in totals], dtype=float)
    given, most_patients = ~np.isnan(total), np.array([bound.high for bound in bounds])
    anything = hidden.any(axis=1)
    least = np.where(given & anything, np.maximum(total - shown - margin, 0.0), 0.0)
    most = np.where(anything, np.where(given, total, most_patients) - shown + margin, 0.0)
    fewest = shown + least - z * deviation * np.sqrt((~hidden).sum(axis=1))
    return BinnedCounts(
        known, hidden, least, np.maximum(most, least), np.maximum(fewest, 0.0), deviation, z
    )


def noise_of(site: Mapping[str, Any], kind: str) -> float:
    """Return the standard deviation of the noise in a site's counts of a kind, 0 without privacy.

    Args:
        site: the site's statistics.
        kind: `vitals`, `missing`, `stay_hours`, `age` or `sex`.
    """
    privacy = site.get("privacy")
    return float(privacy["noise"].get(kind, 0.0)) if privacy else 0.0


def _share(part: Floats, whole: Floats, empty: float = 0.0) -> Floats:
    """Return a quotient; `empty` where the whole is nothing."""
    part, whole = np.broadcast_arrays(part, whole)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(whole > 0, part / whole, empty)
