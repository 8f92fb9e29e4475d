"""An experiment's tables in Markdown: what README and docs show is this file, unchanged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from common.evaluation.metrics import METRICS
from common.reporting.markdown import table_in_markdown
from common.reporting.phrasing import NOTHING, bounds, byte_size, percent
from simulation.experiments.analysis.analysis import Analysis
from simulation.experiments.analysis.seed_bootstrap import ALL

METRICS_SHOWN = ("wql", "mae")
TABLE_FILE = "table.md"


def markdown_table(analysis: Analysis, said: Sequence[str], command: str) -> str:
    """Return the arms against the first reference, and by site and group against every one.

    Args:
        analysis: what the cells say.
        said: paragraphs under the tables: the finding, and what must not be overlooked.
        command: the line that makes the tables.
    """
    blocks = filter(
        None,
        [
            _about(analysis),
            _arms(analysis),
            *(_sites(analysis, reference) for reference in analysis.references),
            *(_groups(analysis, reference) for reference in analysis.references),
            *said,
            f"```\n{command}\n```",
        ],
    )
    return "\n\n".join(blocks) + "\n"


def _about(analysis: Analysis) -> str:
    counts = next(iter(next(iter(analysis.arms.values())).outcomes.values())).scores
    patients = sum(len(one.patient_ids) for one in counts.values())
    windows = sum(int(one.windows.sum()) for one in counts.values())
    return (
        f"{patients:,} test patients, {windows:,} windows, {len(counts)} sites. Relative to "
        f"{analysis.references[0]}, the mean over vital signs and seeds; in brackets 95 % "
        "intervals over patients (the training is not repeated)."
    )


def _arms(analysis: Analysis) -> str:
    reference = analysis.references[0]
    header = ["", *(METRICS[metric].label for metric in METRICS_SHOWN), "seeds' WQL"]
    header += ["trained", "exchanged", "s"]
    rows = []
    for name, arm in analysis.arms.items():
        parameters, exchanged = arm.fact("parameters"), arm.fact("bytes")
        seconds = arm.measured("seconds")
        seeds = [] if name == reference else analysis.seeds(name, reference, "wql")
        cells = [
            *(_difference(analysis, name, reference, metric, ALL) for metric in METRICS_SHOWN),
            _range(seeds),
            NOTHING if parameters is None else f"{parameters:,.0f}",
            byte_size(exchanged) if exchanged else NOTHING,
            NOTHING if seconds is None else f"{seconds:,.0f}",
        ]
        rows.append([name, *cells])
    return table_in_markdown(header, rows, right_aligned=3)


def _sites(analysis: Analysis, reference: str) -> str:
    scores = next(iter(analysis.arms[reference].outcomes.values())).scores
    heads = {site: f"{site}, {len(scores[site].patient_ids):,} patients" for site in analysis.sites}
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
    interval = analysis.difference(arm, reference, metric, scope=scope).to_json()
    return f"{percent(interval['estimate'])} {bounds(interval)}".strip()


def _range(seeds: Sequence[float]) -> str:
    if len(seeds) < 2:
        return NOTHING
    return f"{percent(min(seeds))} to {percent(max(seeds))}"
