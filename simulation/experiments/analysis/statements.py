"""What an experiment's intervals allow to be said, in words."""

from __future__ import annotations

from common.evaluation.metrics import METRICS
from common.reporting.phrasing import (
    BETTER,
    UNCLEAR,
    UNKNOWN,
    WORSE,
    bounds,
    difference_in_words,
    listed,
    percent,
    verdict,
)
from simulation.experiments.analysis.analysis import Analysis


def against(analysis: Analysis, arm: str, reference: str, metric: str = "wql") -> str:
    """Return how an arm compares with a reference, as a sentence."""
    interval = analysis.difference(arm, reference, metric).to_json()
    return f"{arm}: {difference_in_words(METRICS[metric].label, interval, reference)}."


def grouped(analysis: Analysis, reference: str, metric: str = "wql") -> str:
    """Return which arms are lower than a reference, higher, or neither, as a sentence."""
    groups: dict[str, list[str]] = {}
    for arm in analysis.arms:
        if arm != reference:
            interval = analysis.difference(arm, reference, metric).to_json()
            text = f"{arm} ({percent(interval['estimate'])} {bounds(interval)})"
            groups.setdefault(verdict(interval), []).append(text)
    words = {
        BETTER: "below it lie",
        WORSE: "above it lie",
        UNCLEAR: "not to be told apart from it are",
        UNKNOWN: "too few patients to tell for",
    }
    parts = [f"{words[kind]} {listed(groups[kind])}" for kind in words if kind in groups]
    return f"{METRICS[metric].label} relative to {reference}, over patients: {'; '.join(parts)}."
