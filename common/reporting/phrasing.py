"""Numbers and findings in words, never stronger than their intervals.

Console, model card and report say the same thing in the same words, since they all come here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from common.data.site_table import VITALS

Interval = Mapping[str, Any]
"""`common.evaluation.bootstrap.Interval.to_json`: estimate, low, high; None where not defined."""

MODELS: dict[str, str] = {
    "last_value": "Last value",
    "ewm": "Weighted mean",
    "zero_shot": "Zero-shot",
    "adapter": "Federated adapter",
}
"""The models of an evaluation by their names in evaluation.json, in the order of every table."""

REFERENCES: dict[str, str] = {
    "zero_shot": "the frozen backbone alone",
    "last_value": "the last value carried forward",
    "ewm": "the exponentially weighted mean",
}
"""What the adapter is compared with, as a sentence calls it."""

SPLIT_WORDS = {
    "test": "test patients, whom neither training nor the choice of the round saw",
    "validation": "validation patients, by whom the round was chosen: optimistic",
    "train": "training patients: this shows the fit and nothing about new patients",
}

VITAL_LABELS = {vital.name: vital.label for vital in VITALS}
VITAL_UNITS = {vital.name: vital.unit for vital in VITALS}

BETTER, WORSE, UNCLEAR, UNKNOWN = "lower", "higher", "unclear", "unknown"

MINUS = "−"  # noqa: RUF001  # the sign that a reader expects in a table
NO_BREAK = "\u00a0"
NOTHING = "–"  # noqa: RUF001  # an empty cell


def verdict(interval: Interval) -> str:
    """Return what an interval of a difference supports: lower, higher, unclear, or unknown."""
    low, high = interval.get("low"), interval.get("high")
    if low is None or high is None:
        return UNKNOWN
    if high < 0:
        return BETTER
    return WORSE if low > 0 else UNCLEAR


def number(value: float | None, digits: int = 3) -> str:
    """Return a value with a fixed number of digits and a true minus sign."""
    return NOTHING if value is None else f"{value:.{digits}f}".replace("-", MINUS)


def percent(share: float | None, *, signed: bool = True) -> str:
    """Return a share as per cent with two digits, e.g. ``−3.21 %``."""  # noqa: RUF002
    if share is None:
        return NOTHING
    text = f"{100 * share:+.2f}" if signed else f"{100 * abs(share):.2f}"
    return f"{text.replace('-', MINUS)}{NO_BREAK}%"


def bounds(interval: Interval) -> str:
    """Return an interval of shares in per cent, e.g. ``[−4.30, −2.10]``; empty without one."""  # noqa: RUF002
    if verdict(interval) == UNKNOWN:
        return ""
    low, high = (f"{100 * interval[end]:+.2f}".replace("-", MINUS) for end in ("low", "high"))
    return f"[{low}, {high}]"


def byte_size(count: float) -> str:
    """Return a number of bytes in decimal units."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            return f"{count:,.0f} {unit}" if unit == "bytes" else f"{count:,.1f} {unit}"
        count /= 1000
    raise AssertionError(count)


def mean_finding(evaluation: Mapping[str, Any], metric: str, reference: str = "zero_shot") -> str:
    """Return the finding of one metric in the mean over vitals, as a sentence without its dot."""
    interval = evaluation["pooled"]["differences"][reference]["mean"][metric]["relative"]
    return finding(metric.upper(), interval, REFERENCES[reference])


def finding(metric: str, interval: Interval, reference: str) -> str:
    """Return a relative difference in words.

    Args:
        metric: the metric's label.
        interval: of the relative difference to the reference.
        reference: what it is compared with.
    """
    estimate = interval.get("estimate")
    if estimate is None:
        return f"{metric} cannot be compared with that of {reference}"
    kind = verdict(interval)
    if kind == UNKNOWN:
        return (
            f"{metric} differs by {percent(estimate)} from that of {reference}; "
            "there are too few patients for an interval, so nothing follows from it"
        )
    low, high = interval["low"], interval["high"]
    if kind == UNCLEAR:
        return (
            f"{metric} cannot be told apart from that of {reference}: {percent(estimate)}, "
            f"95\u00a0% interval {percent(low)} to {percent(high)}"
        )
    near, far = sorted((abs(low), abs(high)))
    return (
        f"{metric} is {percent(estimate, signed=False)} {kind} than that of {reference} "
        f"(95\u00a0% interval {percent(near, signed=False)} to {percent(far, signed=False)} {kind})"
    )


def vitals_by_verdict(
    evaluation: Mapping[str, Any], metric: str, reference: str = "zero_shot"
) -> str:
    """Return for which vitals a metric is lower, higher or neither, as a sentence without a dot."""
    vitals = evaluation["pooled"]["differences"][reference]["vitals"]
    groups: dict[str, list[str]] = {}
    for vital, row in vitals.items():
        kind = verdict(row[metric]["relative"])
        groups.setdefault(kind, []).append(VITAL_LABELS[vital].lower())
    words = {
        BETTER: "lies below zero for",
        WORSE: "lies above zero for",
        UNCLEAR: "includes zero for",
        UNKNOWN: "cannot be given for",
    }
    parts = [
        f"{words[kind]} {_listed(groups[kind], len(vitals))}" for kind in words if kind in groups
    ]
    return f"Vital by vital, the interval of {metric.upper()} " + "; it ".join(parts)


def _listed(names: list[str], total: int) -> str:
    if len(names) == total > 1:
        return f"all {total} vital signs"
    return joined(names)


def joined(names: list[str]) -> str:
    """Return names as a list in a sentence, e.g. ``ccu, micu and sicu``."""
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def count(value: Any) -> str:
    """Return a number of patients or windows; sites that keep theirs tell none."""
    return NOTHING if value is None else f"{int(value):,}"
