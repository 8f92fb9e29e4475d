"""Medians that no intensive care unit has: swapped pressures, or a wrong column."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import combinations

from common.forecasting.reference_ranges import EXPECTED
from server.statistics.binned_counts import Flags
from server.statistics.findings.finding import Level, SiteFinding
from server.statistics.site_counts import SiteCounts
from server.statistics.wording import bin_bounds, bins_in_words, label, unit_of, value_range

DESCENDING = ("sbp", "mbp", "dbp")
"""Pressures in the order of their size in every patient."""
_OUTER = (DESCENDING[0], DESCENDING[-1])


def swap_findings(counts: SiteCounts, left_out: Mapping[str, Flags]) -> Iterator[SiteFinding]:
    """Find the sites at which the median of a pressure is below that of a smaller one.

    Args:
        counts: of all sites.
        left_out: for each vital the sites that have it in another unit, [S].
    """
    medians = {vital: counts.vitals[vital].median_bins().tolist() for vital in DESCENDING}
    # First the outer pair: where it is swapped, the pressure between is out of order, too.
    pairs = sorted(combinations(DESCENDING, 2), key=lambda pair: pair != _OUTER)
    for site in range(len(counts.names)):
        for greater, smaller in pairs:
            upper, lower = medians[greater][site], medians[smaller][site]
            if left_out[greater][site] or left_out[smaller][site]:
                continue
            if bin_bounds(greater, *upper)[1] > bin_bounds(smaller, *lower)[0]:
                continue
            text = (
                f"The median of {label(greater)}, {bins_in_words(greater, *upper)}, is below that "
                f"of {label(smaller)}, {bins_in_words(smaller, *lower)}: the columns look swapped, "
                "or one has another unit"
            )
            remedy = "Check both columns in the mapping"
            yield SiteFinding(site, Level.MEND, "swapped", text, remedy, (greater, smaller))
            break


def implausible_medians(counts: SiteCounts, vital: str, left_out: Flags) -> Iterator[SiteFinding]:
    """Find the sites with a median that is surely outside the plausible ones of intensive care.

    Args:
        counts: of all sites.
        vital: the vital sign.
        left_out: sites with another flaw in this vital, [S].
    """
    expected = EXPECTED[vital]
    for site, (first, last) in enumerate(counts.vitals[vital].median_bins().tolist()):
        low, high = bin_bounds(vital, first, last)
        if left_out[site] or not (high <= expected.median_low or low > expected.median_high):
            continue
        plausible = value_range(expected.median_low, expected.median_high, unit_of(vital))
        text = (
            f"The median of {label(vital)} is {bins_in_words(vital, first, last)}; plausible of "
            f"adults in intensive care is {plausible}"
        )
        remedy = "Check the vital's column and unit in the mapping, and the ages of the patients"
        yield SiteFinding(site, Level.MEND, "median", text, remedy, (vital,))
