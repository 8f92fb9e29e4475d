"""Vital signs that a site lacks, has of few patients, or has not in some hours."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby

import numpy as np

from common.data.statistics.edges import HOURS
from common.data.vitals import VITAL_NAMES, VITALS
from common.forecasting.unit_checks import OTHER_UNITS
from common.reporting.phrasing import VITAL_LABELS, counted, listed
from server.statistics.binned_counts import Flags, Floats
from server.statistics.chance import low_share_probability
from server.statistics.findings.finding import Level, SiteFinding
from server.statistics.site_counts import SiteCounts
from server.statistics.thresholds import (
    EMPTY_HOUR_SHARE,
    EMPTY_HOURS,
    FEW_PATIENTS,
    FILLED_HOUR_SHARE,
    MISSING_SHARE,
    SPARSE_RATIO,
)
from server.statistics.wording import count_in_words, label, share_in_words


def missing_findings(counts: SiteCounts, vital: str, left_out: Flags) -> Iterator[SiteFinding]:
    """Find the sites at which far fewer patients have a vital than at the others.

    Args:
        counts: of all sites.
        vital: the vital sign.
        left_out: sites with another flaw in this vital, [S].
    """
    low, high = counts.patients_with(vital)
    patients = np.array([(bound.low, bound.high) for bound in counts.patients]).reshape(-1, 2)
    others = _least_share_of_others(low, patients[:, 1])
    with np.errstate(divide="ignore", invalid="ignore"):
        most = np.where(patients[:, 0] > 0, high / patients[:, 0], 1.0)
    unlikely = low_share_probability(high, patients[:, 0], others) < counts.chance / 2
    found = unlikely & (most < SPARSE_RATIO * others) & ~left_out
    for site in np.flatnonzero(found).tolist():
        kind = "missing" if most[site] <= MISSING_SHARE else "sparse"
        text = (
            f"{VITAL_LABELS[vital]} is {kind}: {count_in_words(low[site], high[site])} of "
            f"{count_in_words(*patients[site])} patients have a value, "
            f"{share_in_words(others[site], 1.0)} at the other sites"
        )
        yield SiteFinding(site, Level.MEND, kind, text, _remedy(vital), (vital,))
    yield from _hidden_findings(counts, vital, left_out | found, others)


def _hidden_findings(
    counts: SiteCounts, vital: str, left_out: Flags, others: Floats
) -> Iterator[SiteFinding]:
    """Find the sites that show no count of a vital, though others show that most have it.

    Either fewer patients than the threshold have a value, or the counts happen to be small. Hours
    in which surely none has one make the first likely; without such an hour nothing is said.
    """
    with_low = counts.patients_with(vital)[0]
    empty = _empty_hours(counts, vital).sum(axis=1)
    for site, patients in enumerate(counts.patients):
        large = patients.low >= FEW_PATIENTS and others[site] >= 0.5
        if with_low[site] > 0 or left_out[site] or not large or not empty[site]:
            continue
        if counts.sites[site]["vitals"][vital]["patients"] is not None:
            continue
        threshold = counts.sites[site]["threshold"]
        level = Level.MEND if empty[site] >= EMPTY_HOURS else Level.LOOK
        hours = counted(int(empty[site]), "hour")
        text = (
            f"{VITAL_LABELS[vital]} is probably missing: none of its counts is shown, and in "
            f"{hours} nobody has a value; fewer than {threshold} patients may have it, "
            f"{share_in_words(others[site], 1.0)} at the other sites"
        )
        yield SiteFinding(site, level, "missing", text, _remedy(vital), (vital,))


def hour_findings(counts: SiteCounts, left_out: dict[str, Flags]) -> Iterator[SiteFinding]:
    """Find hours without values at a site that the other sites have values in.

    Args:
        counts: of all sites.
        left_out: for each vital the sites that lack it altogether, [S].
    """
    found: dict[tuple[int, int, int], list[str]] = {}
    for vital in VITAL_NAMES:
        empty = _empty_hours(counts, vital)
        empty[left_out[vital]] = False
        for site in np.flatnonzero(empty.any(axis=1)).tolist():
            for first, last in _runs(empty[site]):
                found.setdefault((site, first, last), []).append(vital)
    for (site, first, last), vitals in sorted(found.items()):
        every = "No vital sign" if len(vitals) == len(VITAL_NAMES) else ""
        what = every or f"{listed(label(vital) for vital in vitals).capitalize()}: hardly a value"
        if every:
            what = f"{every} has more than a few values"
        yield SiteFinding(
            site,
            Level.MEND,
            "hours",
            f"{what} in hours {first} to {last + 1} of the stay, although patients are present and "
            "the other sites have values then",
            "Check the extraction: a limit on rows or hours, time zones, or a join that loses them",
            tuple(vitals),
        )


def _empty_hours(counts: SiteCounts, vital: str) -> Flags:
    """Return the hours that are empty at a site and at it alone, chance left aside, [S, 24]."""
    with_low, with_high, present_low, present_high = counts.hours(vital)
    others = _least_share_of_others(with_low, present_high)
    chance = low_share_probability(with_high, present_low, others) < counts.chance / (2 * HOURS)
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.where(present_low > 0, with_high / present_low, 1.0)
    return np.asarray((share <= EMPTY_HOUR_SHARE) & (others >= FILLED_HOUR_SHARE) & chance)


def _least_share_of_others(part: Floats, whole: Floats) -> Floats:
    """Return the least share that the other sites together have, 0 where none tells its total.

    Args:
        part: fewest patients with the property, [S, ...].
        whole: most patients, [S, ...].
    """
    told = np.isfinite(whole)
    part, whole = np.where(told, part, 0.0), np.where(told, whole, 0.0)
    part, whole = part.sum(axis=0) - part, whole.sum(axis=0) - whole
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(whole > 0, np.clip(part / whole, 0.0, 1.0), 0.0)


def _runs(empty: Flags) -> Iterator[tuple[int, int]]:
    """Yield the first and the last of at least `EMPTY_HOURS` empty hours in a row."""
    for value, group in groupby(range(len(empty)), key=lambda hour: bool(empty[hour])):
        hours = list(group)
        if value and len(hours) >= EMPTY_HOURS:
            yield hours[0], hours[-1]


def _remedy(vital: str) -> str:
    limits = VITALS[VITAL_NAMES.index(vital)]
    lost = [
        unit.name
        for unit in OTHER_UNITS[vital]
        if unit.low >= limits.high or unit.high <= limits.low
    ]
    hint = (
        f"; values in {' or '.join(lost)} are outside the valid range {limits.range_text} and are "
        "left out at ingest"
        if lost
        else ""
    )
    return f"Check the vital's column or codes in the mapping{hint}"
