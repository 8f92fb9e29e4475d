"""Comparison of the sites before the first round: findings and a verdict for each.

Nothing of it starts a training, and no verdict binds a site or the coordinator.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np

from common.data.vitals import VITAL_NAMES
from common.reporting.phrasing import clean_line, listed
from server.statistics.binned_counts import Flags
from server.statistics.findings.distribution import distances, distribution_findings
from server.statistics.findings.finding import Level, SiteFinding
from server.statistics.findings.median import implausible_medians, swap_findings
from server.statistics.findings.missing import hour_findings, missing_findings
from server.statistics.findings.size import size_findings, table_findings
from server.statistics.findings.unit import flawed_by_vital, shifted_parts, shifted_sites
from server.statistics.site_counts import SiteCounts
from server.statistics.wording import label


class Verdict(Enum):
    """Recommendation about a site, from the worst to the best."""

    MEND = "mend first"
    REFUSED = "refused"
    FEW = "too few"
    JOIN = "join"


@dataclass(frozen=True)
class SiteVerdict:
    """A site's verdict.

    Attributes:
        name: the site's name, one printable line.
        verdict: the recommendation.
        findings: its findings, those that decide first; empty for a refused site.
        refusal: reason why it sent no statistics, one printable line; empty if it did.
        site: its statistics; empty if it sent none.
    """

    name: str
    verdict: Verdict
    findings: tuple[SiteFinding, ...] = ()
    refusal: str = ""
    site: Mapping[str, Any] | None = None

    @property
    def is_noted(self) -> bool:
        """True if more is to be said of the site than that it can join."""
        noted = any(finding.level is not Level.UNKNOWN for finding in self.findings)
        return noted or self.verdict is not Verdict.JOIN

    @property
    def shows_nothing(self) -> bool:
        """True if too little is shown to compare any vital sign."""
        return any(
            finding.kind == "not compared" and len(finding.vitals) == len(VITAL_NAMES)
            for finding in self.findings
        )


@dataclass(frozen=True)
class SiteComparison:
    """The sites' counts, and a verdict for each site in the order of urgency."""

    counts: SiteCounts
    verdicts: tuple[SiteVerdict, ...]

    def with_verdict(self, verdict: Verdict) -> list[SiteVerdict]:
        """Return the sites of one verdict."""
        return [one for one in self.verdicts if one.verdict is verdict]

    def flagged(self, vital: str, kinds: frozenset[str]) -> set[int]:
        """Return the places of the sites with a finding of some kinds about a vital."""
        return {
            finding.site
            for one in self.verdicts
            for finding in one.findings
            if vital in finding.vitals and finding.kind in kinds
        }


def compare_sites(statistics: Mapping[str, Any]) -> SiteComparison:
    """Compare the sites of a statistics run.

    Args:
        statistics: content of `statistics.json`, validated.
    """
    counts = SiteCounts.of(statistics)
    by_site: dict[int, list[SiteFinding]] = {site: [] for site in range(len(counts.names))}
    for finding in _findings(counts) if counts.names else ():
        by_site[finding.site].append(finding)
    verdicts = [
        _verdict_of(clean_line(name), counts.sites[site], by_site[site])
        for site, name in enumerate(counts.names)
    ]
    verdicts += [
        SiteVerdict(clean_line(name), Verdict.REFUSED, refusal=clean_line(reason))
        for name, reason in statistics["refused"].items()
    ]
    order = list(Verdict)
    return SiteComparison(
        counts, tuple(sorted(verdicts, key=lambda one: (order.index(one.verdict), one.name)))
    )


def _verdict_of(name: str, site: Mapping[str, Any], findings: list[SiteFinding]) -> SiteVerdict:
    levels = {finding.level for finding in findings}
    if Level.FEW in levels:
        verdict = Verdict.FEW
    else:
        verdict = Verdict.MEND if Level.MEND in levels else Verdict.JOIN
    order = list(Level)
    ordered = sorted(findings, key=lambda finding: order.index(finding.level))
    return SiteVerdict(name, verdict, tuple(ordered), site=site)


def _findings(counts: SiteCounts) -> Iterator[SiteFinding]:
    yield from size_findings(counts)
    yield from table_findings(counts)
    flaws = list(_flaws(counts))
    yield from flaws
    flawed_at = flawed_by_vital(flaws, len(counts.names))
    yield from hour_findings(counts, flawed_at)
    for vital in VITAL_NAMES:
        yield from distribution_findings(counts, vital, flawed_at[vital])
    yield from _not_compared(counts, flawed_at)


def _flaws(counts: SiteCounts) -> list[SiteFinding]:
    """Return the flaws of single vitals: of each site and vital, only what explains most of it."""
    sites = len(counts.names)
    found = [one for vital in VITAL_NAMES for one in shifted_sites(counts, vital)]
    found += swap_findings(counts, flawed_by_vital(found, sites))
    for check in (implausible_medians, shifted_parts, missing_findings):
        left_out = flawed_by_vital(found, sites)
        found += [one for vital in VITAL_NAMES for one in check(counts, vital, left_out[vital])]
    return found


def _not_compared(counts: SiteCounts, left_out: Mapping[str, Flags]) -> Iterator[SiteFinding]:
    """Say of which vitals nothing can be told, since too little of them is shown."""
    silent: dict[int, list[str]] = {}
    for vital in VITAL_NAMES:
        found = distances(counts.vitals[vital], counts.chance)
        low, high = counts.vitals[vital].cumulative()
        wide = np.isnan(found.distance) | ((high - low).mean(axis=1) > 0.5)
        for site in np.flatnonzero(
            wide & ~left_out[vital] & (counts.patients_with(vital)[1] > 0)
        ).tolist():
            silent.setdefault(site, []).append(vital)
    for site, vitals in silent.items():
        what = "any vital sign" if len(vitals) == len(VITAL_NAMES) else listed(map(label, vitals))
        text = f"Too little is shown to compare {what}"
        yield SiteFinding(site, Level.UNKNOWN, "not compared", text, vitals=tuple(vitals))
