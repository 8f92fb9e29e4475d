"""Results of an analysis as text, no stronger than their intervals."""

from __future__ import annotations

from common.evaluation.bootstrap import Interval
from common.evaluation.metrics import METRICS
from common.reporting.cells import decimal, shown_as
from common.reporting.phrasing import (
    BETTER,
    NO_BREAK,
    NOTHING,
    UNCLEAR,
    UNKNOWN,
    WORSE,
    bounds,
    byte_size,
    difference_in_words,
    listed,
    percent,
    verdict,
)
from simulation.experiments.analysis.analysis import Analysis
from simulation.experiments.analysis.seed_bootstrap import ALL
from simulation.experiments.run_cells import Arm

SUMMARY_METRICS = ("wql", "mae")
"""The metrics of every summary; the full tables have all."""


def against(analysis: Analysis, arm: str, reference: str, metric: str = "wql") -> str:
    """Return a sentence that compares an arm with a reference."""
    interval = analysis.difference(arm, reference, metric).to_json()
    return f"{arm}: {difference_in_words(METRICS[metric].label, interval, reference)}."


def grouped(analysis: Analysis, reference: str, metric: str = "wql") -> str:
    """Return a sentence that lists the arms below a reference, above it, and neither."""
    groups: dict[str, list[str]] = {}
    for arm in analysis.arms:
        if arm != reference:
            interval = analysis.difference(arm, reference, metric).to_json()
            text = f"{arm} ({difference_text(analysis, arm, reference, metric)})"
            groups.setdefault(verdict(interval), []).append(text)
    words = {
        BETTER: "lower for",
        WORSE: "higher for",
        UNCLEAR: "not clearly different for",
        UNKNOWN: "too few patients to compare",
    }
    parts = [f"{words[kind]} {listed(groups[kind])}" for kind in words if kind in groups]
    return f"{METRICS[metric].label} relative to {reference}, over patients: {'; '.join(parts)}."


def difference_text(
    analysis: Analysis, arm: str, reference: str, metric: str, scope: str = ALL
) -> str:
    """Return a relative difference with its interval, in per cent."""
    interval = analysis.difference(arm, reference, metric, scope=scope).to_json()
    return f"{percent(interval['estimate'])} {bounds(interval)}".strip()


def seed_range(analysis: Analysis, arm: str, reference: str, metric: str) -> str:
    """Return the lowest and the highest seed's difference; a dash for a single seed."""
    seeds = analysis.seeds(arm, reference, metric)
    if len(seeds) < 2:
        return NOTHING
    return f"{percent(min(seeds))} to {percent(max(seeds))}"


def share_with_interval(share: Interval) -> str:
    """Return a share with its interval in per cent, e.g. ``64 % [56, 71]``."""
    low, high = round(100 * share.low), round(100 * share.high)
    return f"{round(100 * share.estimate)}{NO_BREAK}% [{low}, {high}]"


def cost_texts(arm: Arm) -> list[str]:
    """Return trained numbers, bytes exchanged and seconds of training, each the mean over seeds."""
    parameters, exchanged = arm.fact("parameters"), arm.fact("bytes")
    seconds = arm.measured("seconds")
    return [
        decimal(None) if parameters is None else shown_as(parameters, f"{parameters:,.0f}"),
        shown_as(exchanged, byte_size(exchanged), "bytes") if exchanged else decimal(None),
        decimal(None) if seconds is None else shown_as(seconds, f"{seconds:,.0f}"),
    ]
