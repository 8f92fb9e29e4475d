"""Fairness: the gain of each site, age band and sex, and warnings where one loses."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from common.data.cohort_folder import PATIENTS_FILE
from common.evaluation.bootstrap import LEAST_PATIENTS
from common.evaluation.metrics import METRICS
from common.reporting.components import Part, Row, Section, Table, difference
from common.reporting.phrasing import WORSE, clean_line, listed, verdict
from simulation.experiments.analysis.analysis import Analysis
from simulation.experiments.analysis.sites_better_off import better_off
from simulation.experiments.analysis.statements import share_with_interval
from simulation.experiments.models.registry import CENTRALISED, FEDERATED, LOCAL, ZERO_SHOT

_COMPARED = {
    "federated vs zero-shot": (FEDERATED, ZERO_SHOT),
    "alone vs zero-shot": (LOCAL, ZERO_SHOT),
    "pooled vs zero-shot": (CENTRALISED, ZERO_SHOT),
    "federated vs alone": (FEDERATED, LOCAL),
}


def harmed(analysis: Analysis, scopes: Iterable[str], reference: str) -> list[str]:
    """Return the sites or groups for which the federated model is clearly worse."""
    return [
        scope for scope in scopes if verdict(_gain(analysis, FEDERATED, reference, scope)) == WORSE
    ]


def uncertain(analysis: Analysis, scopes: Iterable[str], reference: str) -> list[str]:
    """Return the sites or groups for which the estimate is worse, clearly or not."""
    return [
        scope
        for scope in scopes
        if (_gain(analysis, FEDERATED, reference, scope)["estimate"] or 0.0) > 0
    ]


def fairness_warnings(analysis: Analysis) -> list[str]:
    """Return a sentence for the sites and groups for which the federated model is worse."""
    warnings = []
    compared = analysis.comparable_sites
    sites = harmed(analysis, compared, LOCAL)
    if sites:
        warnings.append(
            f"At {listed(map(clean_line, sites))} the global adapter is worse than the one that "
            "the site trains alone: the federation does not serve it."
        )
    below_zero_shot = harmed(analysis, compared, ZERO_SHOT)
    if below_zero_shot:
        warnings.append(
            f"At {listed(map(clean_line, below_zero_shot))} the global adapter is worse than the "
            "backbone without it."
        )
    unsure = [site for site in uncertain(analysis, compared, LOCAL) if site not in sites]
    if unsure:
        warnings.append(
            f"At {listed(map(clean_line, unsure))} the global adapter's WQL is above that of the "
            "site's own in the estimate, with an interval that includes zero."
        )
    for reference in (LOCAL, ZERO_SHOT):
        groups = harmed(analysis, (*analysis.bands, *analysis.groups.members), reference)
        if groups:
            warnings.append(f"For {listed(groups)} the global adapter is worse than {reference}.")
    return warnings


def fairness_section(analysis: Analysis) -> Section:
    """Return the gain of each site and, if the cohort has age and sex, of each group."""
    paragraphs = []
    if analysis.bands:
        names = {band: f"{band} ({len(sites)})" for band, sites in analysis.bands.items()}
        tables = [_table(analysis, "Sites by size", names), _better_off_table(analysis)]
        paragraphs.append(
            "An estimate over a site's few test patients is uncertain, which pulls the share of "
            "sites that are better off towards a half. Its interval (Wilson) is over sites. "
            "results.csv has every site."
        )
    else:
        tables = [_table(analysis, "Site", {site: clean_line(site) for site in analysis.sites})]
    groups = analysis.groups
    if groups.members:
        names = {name: f"{name} ({count:,})" for name, count in groups.counts().items()}
        tables.append(_table(analysis, "Group, all sites", names))
        paragraphs.append(
            "The intervals of the groups are not adjusted for multiple comparisons: of twenty "
            "groups without a difference, one is expected to show one."
        )
    if groups.too_small:
        paragraphs.append(
            f"Not compared, with fewer than {LEAST_PATIENTS} test patients: "
            f"{listed(groups.too_small)}."
        )
    if not groups.members and not groups.too_small:
        paragraphs.append(
            f"No group is compared by age or sex: the cohort's folder has no {PATIENTS_FILE}. Its "
            "source has neither, or it was prepared by an earlier release."
        )
    part = Part(tables=tables, paragraphs=paragraphs)
    return Section("fairness", "What each site and group gains", [part])


def better_off_findings(analysis: Analysis) -> list[str]:
    """Return how many of many sites are better off; empty where each site is shown."""
    if not analysis.bands:
        return []
    texts = {LOCAL: "that of the site's own adapter", ZERO_SHOT: "that of the backbone without it"}
    sentences = []
    for reference, text in texts.items():
        found = better_off(analysis, FEDERATED, reference, analysis.sites)
        sentences.append(
            f"At {found.better} of {found.sites} sites ({share_with_interval(found.share)}) the "
            f"global adapter's WQL is below {text}, in the estimate."
        )
    return sentences


def _better_off_table(analysis: Analysis) -> Table:
    rows = [
        Row(
            label,
            [
                f"{found.better} of {found.sites}, {share_with_interval(found.share)}"
                for found in (
                    better_off(analysis, FEDERATED, reference, sites)
                    for reference in (LOCAL, ZERO_SHOT)
                )
            ],
        )
        for label, sites in {"all sites": tuple(analysis.sites), **analysis.bands}.items()
    ]
    header = ["Sites", "better off than alone", "better off than zero-shot"]
    return Table(
        "Sites at which the estimate of the federated adapter's WQL is lower", header, rows
    )


def _table(analysis: Analysis, what: str, scopes: dict[str, str]) -> Table:
    rows = [
        Row(
            label,
            [
                difference(_gain(analysis, arm, reference, scope))
                for arm, reference in _COMPARED.values()
            ],
        )
        for scope, label in scopes.items()
    ]
    label = METRICS["wql"].label
    title = f"{label}, mean over vital signs; below zero is a gain"
    return Table(title, [what, *_COMPARED], rows)


def _gain(analysis: Analysis, arm: str, reference: str, scope: str) -> dict[str, Any]:
    """Return an arm's relative difference in WQL at a site or in a group; below zero is a gain."""
    return analysis.difference(arm, reference, "wql", scope=scope).to_json()
