"""Vital signs that are distributed otherwise at a site than at the others together.

The measure is the Kolmogorov-Smirnov distance: the largest difference of two cumulative shares. It
needs no bin to be filled or shown, unlike the population stability index.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from common.data.statistics.edges import EDGES
from common.reporting.phrasing import VITAL_LABELS
from server.statistics.binned_counts import BinnedCounts, Flags, Floats
from server.statistics.chance import cumulative_margin
from server.statistics.findings.finding import Level, SiteFinding
from server.statistics.site_counts import SiteCounts
from server.statistics.thresholds import KS_DISTANCE
from server.statistics.wording import share_in_words, unit_of


@dataclass(frozen=True)
class Distances:
    """Distances of S sites from the others together; NaN where nothing can be compared.

    Attributes:
        distance: the least distance that the suppressed counts allow, [S].
        at_least: the least one that chance and noise allow, too, [S].
        edge: inner edge of that distance, [S].
        here: bounds of the site's share below that edge, [S, 2].
        others: bounds of the other sites' share, [S, 2].
    """

    distance: Floats
    at_least: Floats
    edge: np.ndarray
    here: Floats
    others: Floats


def distances(counts: BinnedCounts, chance: float, left_out: Flags | None = None) -> Distances:
    """Return the distance of each site's distribution from that of the others together.

    Args:
        counts: of one vital.
        chance: probability that `at_least` exceeds the true distance, per site.
        left_out: sites that are no part of the others, e.g. in another unit, [S].
    """
    low, high = counts.cumulative()
    noise = counts.noise_margin()
    patients = counts.fewest
    pooled = (counts.total > 0) & np.isfinite(noise).all(axis=1)
    if left_out is not None:
        pooled &= ~left_out
    # Sites that show nothing count, too: their shares may be anything.
    weight = np.where(pooled, counts.total, 0.0)
    other_low, other_high = _of_others(weight, low), _of_others(weight, high)
    other_noise = _noise_of_others(weight, np.where(pooled[:, None], noise, 0.0))
    others = _effective_patients(weight, patients)
    gap = np.maximum(np.maximum(low - other_high, other_low - high), 0.0)
    sure = gap - noise - other_noise
    margin = cumulative_margin(patients, chance / 2) + cumulative_margin(others, chance / 2)
    edge = np.where(np.isfinite(sure), sure, -1.0).argmax(axis=1)
    rows = np.arange(len(gap))
    known = (patients > 0) & (others > 0) & np.isfinite(sure).any(axis=1)
    with np.errstate(invalid="ignore"):
        at_least = np.maximum(sure[rows, edge] - margin, 0.0)
    return Distances(
        np.where(known, gap[rows, edge], np.nan),
        np.where(known, at_least, np.nan),
        edge,
        np.stack([low[rows, edge], high[rows, edge]], axis=1),
        np.stack([other_low[rows, edge], other_high[rows, edge]], axis=1),
    )


def distribution_findings(counts: SiteCounts, vital: str, left_out: Flags) -> Iterator[SiteFinding]:
    """Find the sites at which a vital is distributed otherwise than at the others.

    Args:
        counts: of all sites.
        vital: the vital sign.
        left_out: sites with a flaw in this vital: neither compared nor part of the others, [S].
    """
    found = distances(counts.vitals[vital], counts.chance, left_out)
    with np.errstate(invalid="ignore"):
        flagged = (found.distance >= KS_DISTANCE) & (found.at_least > 0) & ~left_out
    for site in np.flatnonzero(flagged):
        edge = f"{EDGES[vital][found.edge[site]]:g}{unit_of(vital)}"
        points, least = 100 * found.distance[site], 100 * found.at_least[site]
        noisy = counts.sites[site]["privacy"] is not None
        allowed = "chance and noise" if noisy else "chance"
        surely = "some" if least < 1 else f"at least {least:.0f}"
        text = (
            f"{VITAL_LABELS[vital]} is distributed otherwise: "
            f"{share_in_words(*found.here[site])} of the patients have a median below {edge}, "
            f"{share_in_words(*found.others[site])} at the other sites; {points:.0f} points apart, "
            f"{surely} of them more than {allowed} would give"
        )
        remedy = "Other patients, or another way to measure; ask the site which, and compare it"
        yield SiteFinding(int(site), Level.LOOK, "other distribution", text, remedy, (vital,))


def _of_others(weight: Floats, values: Floats) -> Floats:
    """Return the weighted mean of the other sites' values, [S, E]."""
    total = (weight[:, None] * values).sum(axis=0) - weight[:, None] * values
    rest = weight.sum() - weight
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = np.where(rest[:, None] > 0, total / rest[:, None], np.nan)
    return np.clip(mean, 0.0, 1.0)


def _effective_patients(weight: Floats, patients: Floats) -> Floats:
    """Return the size of a plain sample that is as precise as the others' weighted mean, [S].

    Hoeffding's inequality for a weighted sum. Sites of which no patient is shown add none: the
    bounds of their shares hold for any sample.
    """
    square = np.where(patients > 0, weight**2 / np.maximum(patients, 1e-300), 0.0)
    rest, squares = weight.sum() - weight, square.sum() - square
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where((squares > 1e-9) & (rest > 0), rest**2 / squares, 0.0)


def _noise_of_others(weight: Floats, noise: Floats) -> Floats:
    """Return the margin of the weighted mean of the others' independent noises, [S, E]."""
    square = (weight[:, None] * noise) ** 2
    rest = (weight.sum() - weight)[:, None]
    with np.errstate(divide="ignore", invalid="ignore"):
        margin = np.sqrt(np.maximum(square.sum(axis=0) - square, 0.0)) / rest
    return np.where(rest > 0, margin, np.inf)
