"""Vital signs in another unit, at a whole site or at a part of its patients."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from common.data.statistics.edges import BINS
from common.data.vitals import VITAL_NAMES
from common.forecasting.unit_checks import OTHER_UNITS, OtherUnit
from common.reporting.phrasing import VITAL_LABELS
from server.statistics.binned_counts import BinnedCounts, Flags, Floats
from server.statistics.chance import low_share_probability
from server.statistics.findings.finding import Level, SiteFinding
from server.statistics.site_counts import SiteCounts
from server.statistics.thresholds import OTHER_UNIT_SHARE, STRAY_FACTOR, STRAY_SHARE
from server.statistics.wording import (
    bin_bounds,
    bins_in_words,
    count_in_words,
    share_in_words,
    unit_of,
    value_range,
)

_LAST = BINS - 1


def shifted_sites(counts: SiteCounts, vital: str) -> Iterator[SiteFinding]:
    """Find the sites whose median is in another unit's range, and in no proper one's.

    The median of a whole site is never in the first or the last bin in the proper unit.
    """
    medians = counts.vitals[vital].median_bins()
    for site, (first, last) in enumerate(medians.tolist()):
        units = [
            unit for unit in OTHER_UNITS[vital] if _covers(vital, unit, range(first, last + 1))
        ]
        if not units:
            continue
        names = " or ".join(unit.name for unit in units)
        text = (
            f"{VITAL_LABELS[vital]} looks like {names}: the median of its patients is "
            f"{bins_in_words(vital, first, last, '')}{_converted(vital, (first, last), units)}"
            f"{_of_the_others(counts, vital, site)}"
        )
        remedies = _remedies(units)
        remedy = f"{remedies[0].upper()}{remedies[1:]}, or name the unit in the mapping"
        yield SiteFinding(site, Level.MEND, "unit", text, remedy, (vital,))


def shifted_parts(counts: SiteCounts, vital: str, left_out: Flags) -> Iterator[SiteFinding]:
    """Find the sites of which a part of the patients is in another unit's range.

    Args:
        counts: of all sites.
        vital: the vital sign.
        left_out: sites with another flaw in this vital, [S].
    """
    one = counts.vitals[vital]
    found: dict[tuple[int, ...], list[OtherUnit]] = {}
    for unit in OTHER_UNITS[vital]:
        places = tuple(place for place in range(BINS) if _covers(vital, unit, [place]))
        if places:
            found.setdefault(places, []).append(unit)
    for places, units in found.items():
        bins = np.zeros_like(one.hidden)
        bins[:, list(places)] = True
        fewest, total = one.least_in(bins), one.total
        # A few patients are in an open bin in the proper unit, too.
        usual = np.maximum(STRAY_FACTOR * _usual_share(one, bins), STRAY_SHARE)
        rest = np.maximum(total - fewest, 0.0)
        unlikely = low_share_probability(rest, total, 1.0 - usual) < counts.chance
        many = fewest > OTHER_UNIT_SHARE * total
        for site in np.flatnonzero(unlikely & many & ~left_out):
            most = min(float(one.most_in(bins)[site]), float(total[site]))
            yield _part_finding(vital, int(site), places, units, (fewest[site], most, total[site]))


def _part_finding(
    vital: str,
    site: int,
    places: tuple[int, ...],
    units: Sequence[OtherUnit],
    patients: tuple[float, float, float],
) -> SiteFinding:
    """Return the finding from the fewest, the most, and all patients."""
    fewest, most, total = patients
    names = " or ".join(unit.name for unit in units)
    where = " and ".join(bins_in_words(vital, *run, "") for run in _runs(places))
    text = (
        f"{VITAL_LABELS[vital]} of a part of the patients may be in {names}: "
        f"{count_in_words(fewest, most)} of {count_in_words(total)} "
        f"({share_in_words(fewest / total, most / total)}) have a median that is {where}, more "
        "than at the other sites"
    )
    remedy = (
        f"If units are mixed, {_remedies(units)} for these alone, by the column of units or by the "
        "range of each value"
    )
    return SiteFinding(site, Level.MEND, "part in a unit", text, remedy, (vital,))


def _covers(vital: str, unit: OtherUnit, places: Sequence[int]) -> bool:
    """Return whether bins are within a unit's range, or are one open bin that overlaps with it."""
    low, high = bin_bounds(vital, places[0], places[-1])
    if unit.low <= low and high <= unit.high:
        return True
    is_open = list(places) in ([0], [_LAST])
    return is_open and low <= unit.high and unit.low < high


def _usual_share(counts: BinnedCounts, bins: Flags) -> Floats:
    """Return the median of the other sites' shares in bins, 0 where no other shows any, [S].

    The median, not the share of all together: another site may be in that unit as well.
    """
    shown = (counts.total > 0) & ~(counts.hidden & bins).any(axis=1)
    shares = np.where(
        shown, (counts.known * bins).sum(axis=1) / np.where(shown, counts.total, 1.0), np.nan
    )
    usual = np.zeros(len(shares))
    for site in range(len(shares)):
        others = np.delete(shares, site)
        if not np.isnan(others).all():
            usual[site] = np.clip(np.nanmedian(others), 0.0, 1.0)
    return usual


def _remedies(units: Sequence[OtherUnit]) -> str:
    if len(units) == 1:
        return units[0].remedy
    return "; ".join(f"if {unit.name}, {unit.remedy}" for unit in units)


def _converted(vital: str, median: tuple[int, int], units: Sequence[OtherUnit]) -> str:
    """Return the converted median; empty where the bins are open, which says nothing."""
    low, high = bin_bounds(vital, *median)
    if len(units) > 1 or math.isinf(low) or math.isinf(high):
        return ""
    unit = units[0]
    ends = [unit.convert(end) for end in (max(low, unit.low), min(high, unit.high))]
    return f", converted {value_range(ends[0], ends[1], unit_of(vital))}"


def _of_the_others(counts: SiteCounts, vital: str, site: int) -> str:
    """Return the range of most other sites' medians; empty where none is known."""
    bins = np.delete(counts.vitals[vital].median_bins(), site, axis=0)
    bins = bins[(bins[:, 0] > 0) | (bins[:, 1] < _LAST)]
    if not len(bins):
        return ""
    first, last = (int(place) for place in np.median(bins, axis=0))
    return f"; at the other sites it is typically {bins_in_words(vital, first, max(first, last))}"


def _runs(places: Sequence[int]) -> list[tuple[int, int]]:
    """Return first and last of each run of neighbouring places."""
    runs: list[tuple[int, int]] = []
    for place in places:
        if runs and runs[-1][1] == place - 1:
            runs[-1] = (runs[-1][0], place)
        else:
            runs.append((place, place))
    return runs


def flawed(findings: Sequence[SiteFinding], vital: str, sites: int) -> Flags:
    """Return the sites with a flaw in a vital that must be mended, [S]."""
    flags = np.zeros(sites, dtype=bool)
    for finding in findings:
        if finding.level is Level.MEND and vital in finding.vitals:
            flags[finding.site] = True
    return flags


def flawed_by_vital(findings: Sequence[SiteFinding], sites: int) -> dict[str, Flags]:
    """Return `flawed` of each vital."""
    return {vital: flawed(findings, vital, sites) for vital in VITAL_NAMES}
