"""An evaluation in the words of a clinician: how far off, how far to trust, and where.

No sentence says more than its interval. What the statistics are called stands in
`common.reporting.phrasing`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from common.evaluation.metrics import METRICS
from common.reporting.phrasing import (
    BETTER,
    NO_BREAK,
    UNCLEAR,
    UNKNOWN,
    VITAL_LABELS,
    WORSE,
    Interval,
    joined,
    number,
    percent,
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
"""What the error of each vital sign is counted in."""

RANGE_ANNOUNCED = "Around each forecast stands a range that should hold 80 of 100 measurements."

_MOST_DIGITS = 5
_RANGE = METRICS["coverage_80"].ideal


_SMALL = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


def small_number(value: int) -> str:
    """Return a small number as a word, as prose has it; a larger one in digits."""
    return _SMALL[value] if value < len(_SMALL) else f"{value:,}"


def duration(minutes: float) -> str:
    """Return a time in words, e.g. ``6 hours`` or ``90 minutes``."""
    hours, rest = divmod(minutes, 60)
    value, unit = (minutes, "minute") if rest else (hours, "hour")
    return f"{value:g}{NO_BREAK}{unit}{'' if value == 1 else 's'}"


def vital_errors(evaluation: Mapping[str, Any]) -> list[str]:
    """Return for each vital how far off the forecasts are, with and without the adapter."""
    pooled = evaluation["pooled"]
    ours, reference = (pooled["models"][model]["vitals"] for model in ("adapter", "zero_shot"))
    differences = pooled["differences"]["zero_shot"]["vitals"]
    return [
        error_in_words(vital, ours[vital]["mae"], reference[vital]["mae"], row["mae"]["absolute"])
        for vital, row in differences.items()
    ]


def error_in_words(
    vital: str, ours: float | None, reference: float | None, difference: Interval
) -> str:
    """Return one vital's error as a sentence.

    Args:
        vital: its name.
        ours: mean absolute error with the adapter, in the vital's unit.
        reference: the same without.
        difference: ours - reference with its interval.
    """
    digits = _digits(difference)
    said = (
        f"{VITAL_LABELS[vital]}: off by {number(ours, digits)} {UNIT_WORDS[vital]} on average, "
        f"against {number(reference, digits)} without the adapter"
    )
    kind = verdict(difference)
    estimate, low, high = (difference.get(end) for end in ("estimate", "low", "high"))
    if kind == UNKNOWN or estimate is None or low is None or high is None:
        return f"{said}; there are too few patients to say whether that is more than chance."
    if kind == UNCLEAR:
        return (
            f"{said}; the two cannot be told apart (the 95{NO_BREAK}% interval of the difference "
            f"is {_signed(low, digits)} to {_signed(high, digits)})."
        )
    near, far = sorted((abs(low), abs(high)))
    word = "less" if kind == BETTER else "more"
    return (
        f"{said}: {number(abs(estimate), digits)} {word} (95{NO_BREAK}% interval "
        f"{number(near, digits)} to {number(far, digits)} {word})."
    )


def mean_error(evaluation: Mapping[str, Any]) -> str:
    """Return how the error changes in the mean over vitals, as a sentence without its dot."""
    interval = evaluation["pooled"]["differences"]["zero_shot"]["mean"]["mae"]["relative"]
    estimate, kind = interval.get("estimate"), verdict(interval)
    if estimate is None:
        return "the errors with and without the adapter cannot be compared"
    if kind == UNKNOWN:
        return (
            "there are too few patients to say whether the adapter changes the forecasts' "
            "average error"
        )
    low, high = interval["low"], interval["high"]
    if kind == UNCLEAR:
        return (
            "the forecasts' average error with the adapter cannot be told apart from that without "
            f"it ({percent(estimate)}, 95{NO_BREAK}% interval {percent(low)} to {percent(high)})"
        )
    near, far = (percent(end, signed=False) for end in sorted((abs(low), abs(high))))
    word = "smaller" if kind == BETTER else "larger"
    return (
        f"the forecasts' average error is {percent(estimate, signed=False)} {word} with the "
        f"adapter than without it (95{NO_BREAK}% interval {near} to {far} {word})"
    )


def range_in_words(calibration: Mapping[str, Any]) -> list[str]:
    """Return what share of measurements the 80 % ranges held, in the mean and by vital."""
    inside = calibration["mean"]["inside_80"]
    share, low, high = (inside.get(end) for end in ("estimate", "low", "high"))
    if share is None:
        return []
    held = f"They held {_share(share)} in the mean over vital signs"
    if low is None or high is None:
        return [f"{held}; there are too few patients for an interval, so nothing follows from it."]
    near, far = (f"{100 * away:.1f}" for away in sorted((abs(low - _RANGE), abs(high - _RANGE))))
    meaning = {
        BETTER: f"{near} to {far} points fewer than announced, so that they are too narrow",
        WORSE: f"{near} to {far} points more than announced, so that they are too wide",
        UNCLEAR: "no difference from what was announced can be shown",
    }[_range_verdict(inside)]
    return [
        f"{held} (95{NO_BREAK}% interval {_share(low)} to {_share(high)}): {meaning}.",
        _vital_ranges(calibration["vitals"]),
    ]


def _vital_ranges(vitals: Mapping[str, Any]) -> str:
    groups: dict[str, list[str]] = {}
    for vital, curve in vitals.items():
        kind = _range_verdict(curve["inside_80"])
        groups.setdefault(kind, []).append(VITAL_LABELS[vital].lower())
    words = {BETTER: "too narrow for", WORSE: "too wide for"}
    parts = [f"{words[kind]} {joined(groups[kind])}" for kind in words if kind in groups]
    if not parts:
        return "For no single vital sign can a difference be shown."
    return f"Vital by vital, they can be shown to be {' and '.join(parts)}."


def sites_in_words(evaluation: Mapping[str, Any], names: Mapping[str, str]) -> str:
    """Return at which sites the error is smaller, larger or neither.

    Args:
        evaluation: what evaluation.json holds.
        names: each site's name as it may be shown.
    """
    groups: dict[str, list[str]] = {}
    for site, result in evaluation["sites"].items():
        interval = result["differences"]["zero_shot"]["mean"]["mae"]["relative"]
        groups.setdefault(verdict(interval), []).append(names[site])
    words = {
        BETTER: "smaller with the adapter at",
        WORSE: "larger with the adapter at",
        UNCLEAR: "not to be told apart at",
        UNKNOWN: "of too few patients to compare at",
    }
    parts = [f"{words[kind]} {_some(groups[kind])}" for kind in words if kind in groups]
    return f"Site by site, the average error is {'; '.join(parts)}."


def _range_verdict(inside: Interval) -> str:
    """Whether a share can be shown to lie below what was announced, above, or neither."""
    ends = {end: inside.get(end) for end in ("low", "high")}
    return verdict({end: None if at is None else at - _RANGE for end, at in ends.items()})


def _digits(difference: Interval) -> int:
    """As many digits as it takes for no end of an interval to be shown as zero."""
    ends = [abs(value) for value in (difference.get("low"), difference.get("high")) if value]
    needed = [math.ceil(-math.log10(end)) for end in ends]
    return min(max([2, *needed]), _MOST_DIGITS)


def _signed(value: float, digits: int) -> str:
    return number(value, digits) if value < 0 else f"+{number(value, digits)}"


def _share(value: float) -> str:
    return f"{100 * value:.1f}{NO_BREAK}%"


def _some(names: Sequence[str], most: int = 12) -> str:
    """Join names; where there are many, their number is told instead."""
    return joined(list(names)) if len(names) <= most else f"{len(names)} sites"
