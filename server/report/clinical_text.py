"""Sentences about an evaluation that the report's summary and the model card share.

They are written for clinicians. No sentence is stronger than its interval.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from common.evaluation.metrics import METRICS
from common.reporting.phrasing import (
    BETTER,
    NO_BREAK,
    REFERENCES,
    UNCLEAR,
    UNKNOWN,
    VITAL_LABELS,
    WORSE,
    IntervalJson,
    decimals_for,
    difference_in_words,
    listed,
    number,
    percent,
    signed_number,
    verdict,
)

UNIT_WORDS = {
    "heart_rate": "beats/min",
    "sbp": "mmHg",
    "dbp": "mmHg",
    "mbp": "mmHg",
    "resp_rate": "breaths/min",
    "temperature_c": "°C",
    "spo2": "percentage points",
}
"""Unit of each vital sign's error, in words."""

RANGE_ANNOUNCED = "Each forecast has a range that should contain 80 of 100 measurements."

_RANGE = METRICS["coverage_80"].ideal


def mean_difference(
    evaluation: Mapping[str, Any], metric: str, reference: str = "zero_shot"
) -> str:
    """Return the adapter's difference in one metric, averaged over vitals, without a full stop."""
    interval = evaluation["pooled"]["differences"][reference]["mean"][metric]["relative"]
    return difference_in_words(metric.upper(), interval, REFERENCES[reference])


def vital_errors(evaluation: Mapping[str, Any]) -> list[str]:
    """Return for each vital the mean absolute error with and without the adapter."""
    pooled = evaluation["pooled"]
    ours, reference = (pooled["models"][model]["vitals"] for model in ("adapter", "zero_shot"))
    differences = pooled["differences"]["zero_shot"]["vitals"]
    return [
        error_in_words(
            vital,
            ours[vital]["mae"],
            reference[vital]["mae"],
            row["mae"]["absolute"],
            row["mae"]["relative"],
        )
        for vital, row in differences.items()
    ]


def error_in_words(
    vital: str,
    ours: float | None,
    reference: float | None,
    difference: IntervalJson,
    relative: IntervalJson | None = None,
) -> str:
    """Return one vital's error as a sentence.

    Args:
        vital: its name.
        ours: mean absolute error with the adapter, in the vital's unit.
        reference: the same without the adapter.
        difference: ours - reference with its interval, in the vital's unit.
        relative: the same as a share of the reference; None = not given in per cent.
    """
    decimals = decimals_for(difference)
    errors = (
        f"{VITAL_LABELS[vital]}: off by {number(ours, decimals)} {UNIT_WORDS[vital]} on average, "
        f"against {number(reference, decimals)} without the adapter"
    )
    kind = verdict(difference)
    estimate, low, high = (difference.get(end) for end in ("estimate", "low", "high"))
    if kind == UNKNOWN or estimate is None or low is None or high is None:
        return f"{errors}; there are too few patients to say whether this is more than chance."
    if kind == UNCLEAR:
        return (
            f"{errors}; the two cannot be told apart (the 95{NO_BREAK}% interval of the difference "
            f"is {signed_number(low, decimals)} to {signed_number(high, decimals)} "
            f"{UNIT_WORDS[vital]}{_in_per_cent(relative, kind)})."
        )
    near, far = sorted((abs(low), abs(high)))
    word = "less" if kind == BETTER else "more"
    return (
        f"{errors}: {number(abs(estimate), decimals)} {word} (95{NO_BREAK}% interval "
        f"{number(near, decimals)} to {number(far, decimals)} {word})"
        f"{_in_per_cent(relative, kind)}."
    )


def _in_per_cent(relative: IntervalJson | None, kind: str) -> str:
    """Return a relative difference and its interval, to be put behind those in the unit."""
    if relative is None or verdict(relative) == UNKNOWN:
        return ""
    ends = [relative["low"], relative["high"]]
    if kind == UNCLEAR:
        low, high = (percent(end) for end in ends)
        return f", or {low} to {high}"
    near, far = (percent(end, signed=False) for end in sorted(ends, key=abs))
    return f", or {percent(relative['estimate'], signed=False)} ({near} to {far})"


def range_in_words(calibration: Mapping[str, Any]) -> list[str]:
    """Return the share of measurements inside the 80 % ranges, in the mean and by vital."""
    inside = calibration["mean"]["inside_80"]
    share, low, high = (inside.get(end) for end in ("estimate", "low", "high"))
    if share is None:
        return []
    contained = (
        f"The ranges contained {_share(share)} of the measurements, averaged over the vital signs"
    )
    if low is None or high is None:
        return [
            f"{contained}; there are too few patients for an interval, so nothing follows from it."
        ]
    near, far = (f"{100 * away:.1f}" for away in sorted((abs(low - _RANGE), abs(high - _RANGE))))
    meaning = {
        BETTER: f"{near} to {far} percentage points too few, so the ranges are too narrow",
        WORSE: f"{near} to {far} percentage points too many, so the ranges are too wide",
        UNCLEAR: "this is compatible with 80 of 100",
    }[_range_verdict(inside)]
    return [
        f"{contained} (95{NO_BREAK}% interval {_share(low)} to {_share(high)}): {meaning}.",
        _vital_ranges(calibration["vitals"]),
    ]


def _vital_ranges(vitals: Mapping[str, Any]) -> str:
    groups: dict[str, list[str]] = {}
    for vital, curve in vitals.items():
        kind = _range_verdict(curve["inside_80"])
        groups.setdefault(kind, []).append(VITAL_LABELS[vital].lower())
    words = {BETTER: "too narrow for", WORSE: "too wide for"}
    parts = [f"{words[kind]} {listed(groups[kind])}" for kind in words if kind in groups]
    if not parts:
        return "No difference can be shown for any single vital sign."
    return f"Of the single vital signs, the ranges are shown to be {' and '.join(parts)}."


def _range_verdict(inside: IntervalJson) -> str:
    """Return whether a share is shown to be below the announced one, above, or neither."""
    ends = {end: inside.get(end) for end in ("low", "high")}
    return verdict({end: None if at is None else at - _RANGE for end, at in ends.items()})


def _share(value: float) -> str:
    return f"{100 * value:.1f}{NO_BREAK}%"
