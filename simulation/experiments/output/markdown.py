"""Tables of an experiment in Markdown; README and docs quote this file unchanged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from common.evaluation.metrics import METRICS
from common.reporting.markdown import table_in_markdown
from common.reporting.phrasing import NOTHING
from simulation.experiments.analysis.analysis import Analysis
from simulation.experiments.analysis.seed_bootstrap import ALL
from simulation.experiments.analysis.statements import (
    SUMMARY_METRICS,
    cost_texts,
    difference_text,
    seed_range,
)

TABLE_FILE = "table.md"


def markdown_table(analysis: Analysis, paragraphs: Sequence[str], command: str) -> str:
    """Return the arms against the first reference, and by site and group against every one.

    Args:
        analysis: the results of the cells.
        paragraphs: texts under the tables: headline, warnings and findings.
        command: the command that makes the tables.
    """
    blocks = filter(
        None,
        [
            _about(analysis),
            _arms(analysis),
            *(_sites(analysis, reference) for reference in analysis.references),
            *(_groups(analysis, reference) for reference in analysis.references),
            *paragraphs,
            f"```\n{command}\n```",
        ],
    )
    return "\n\n".join(blocks) + "\n"


def _about(analysis: Analysis) -> str:
    counts = next(iter(next(iter(analysis.arms.values())).results.values())).scores
    patients = sum(len(one.patient_ids) for one in counts.values())
    windows = sum(int(one.windows.sum()) for one in counts.values())
    return (
        f"{patients:,} test patients, {windows:,} windows, {len(counts)} sites. Relative to "
        f"{analysis.references[0]}, the mean over vital signs and seeds; in brackets 95 % "
        "intervals over patients (the training is not repeated)."
    )


def _arms(analysis: Analysis) -> str:
    reference = analysis.references[0]
    header = ["", *(METRICS[metric].label for metric in SUMMARY_METRICS), "seeds' WQL"]
    header += ["trained", "exchanged", "s"]
    rows = []
    for name, arm in analysis.arms.items():
        cells = [
            *(_difference(analysis, name, reference, metric, ALL) for metric in SUMMARY_METRICS),
            NOTHING if name == reference else seed_range(analysis, name, reference, "wql"),
            *cost_texts(arm),
        ]
        rows.append([name, *cells])
    return table_in_markdown(header, rows, right_aligned=3)


def _sites(analysis: Analysis, reference: str) -> str:
    scores = next(iter(analysis.arms[reference].results.values())).scores
    members = analysis.bands or {site: (site,) for site in analysis.sites}
    patients = {
        name: sum(len(scores[site].patient_ids) for site in sites)
        for name, sites in members.items()
    }
    heads = {name: f"{name}, {count:,} patients" for name, count in patients.items()}
    return _by_scope(analysis, reference, heads)


def _groups(analysis: Analysis, reference: str) -> str:
    heads = {name: f"{name} ({count:,})" for name, count in analysis.groups.counts().items()}
    return _by_scope(analysis, reference, heads) if heads else ""


def _by_scope(analysis: Analysis, reference: str, heads: Mapping[str, str]) -> str:
    """Return a table with a column for each site or group, under its head."""
    rows = []
    for name in analysis.arms:
        if name != reference:
            cells = [_difference(analysis, name, reference, "wql", scope) for scope in heads]
            rows.append([name, *cells])
    return table_in_markdown([f"WQL vs {reference}", *heads.values()], rows)


def _difference(analysis: Analysis, arm: str, reference: str, metric: str, scope: str) -> str:
    if arm == reference:
        return "0"
    return difference_text(analysis, arm, reference, metric, scope)
