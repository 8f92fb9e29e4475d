"""An experiment's table in Markdown: what README and docs show is this file, unchanged."""

from __future__ import annotations

from common.metrics import METRICS
from server.wording import NOTHING, bounds, byte_size, percent
from simulation.experiments.analysis import Analysis

METRICS_SHOWN = ("wql", "mae")
TABLE_FILE = "table.md"


def markdown_table(analysis: Analysis, command: str) -> str:
    """Return the arms against the first reference, with the line that makes the table."""
    reference = analysis.references[0]
    counts = next(iter(next(iter(analysis.arms.values())).outcomes.values())).scores
    patients = sum(len(one.patient_ids) for one in counts.values())
    windows = sum(int(one.windows.sum()) for one in counts.values())
    header = ["", *(METRICS[metric].label for metric in METRICS_SHOWN), "seeds' WQL"]
    header += ["trained", "exchanged", "s"]
    lines = [
        f"{patients:,} test patients, {windows:,} windows, {len(counts)} sites. Relative to "
        f"{reference}, the mean over vital signs and seeds; in brackets 95 % intervals over "
        "patients (the training is not repeated).",
        "",
        f"| {' | '.join(header)} |",
        f"|---|{'---|' * len(METRICS_SHOWN)}---|--:|--:|--:|",
    ]
    for name, arm in analysis.arms.items():
        cells = []
        for metric in METRICS_SHOWN:
            if name == reference:
                cells.append("0")
                continue
            interval = analysis.difference(name, reference, metric).to_json()
            cells.append(f"{percent(interval['estimate'])} {bounds(interval)}".strip())
        seeds = [] if name == reference else analysis.seeds(name, reference, "wql")
        cells.append(_range(seeds))
        parameters, exchanged = arm.fact("parameters"), arm.fact("bytes")
        seconds = arm.measured("seconds")
        cells += [
            NOTHING if parameters is None else f"{parameters:,.0f}",
            byte_size(exchanged) if exchanged else NOTHING,
            NOTHING if seconds is None else f"{seconds:,.0f}",
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join([*lines, "", "```", command, "```", ""])


def _range(seeds: list[float]) -> str:
    if len(seeds) < 2:
        return NOTHING
    return f"{percent(min(seeds))} to {percent(max(seeds))}"
