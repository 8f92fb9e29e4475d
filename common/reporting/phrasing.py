"""Numbers, intervals and verdicts as text, with the labels that all reports share.

Console, model card and report use these functions, so they word the same result the same way. No
sentence is stronger than its interval.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from common.data.vitals import VITALS

IntervalJson = Mapping[str, Any]
"""`common.evaluation.bootstrap.Interval.to_json`: estimate, low, high; None where not defined."""

MODELS: dict[str, str] = {
    "last_value": "Last value",
    "ewm": "Weighted mean",
    "zero_shot": "Zero-shot",
    "adapter": "Federated adapter",
}
"""Labels of an evaluation's models by their names in evaluation.json, in table order."""

REFERENCES: dict[str, str] = {
    "zero_shot": "the frozen backbone alone",
    "last_value": "the last value carried forward",
    "ewm": "the exponentially weighted mean",
}
"""Models that the adapter is compared with, as named in a sentence."""

SPLIT_WORDS = {
    "test": "test patients, who were not used for training or for choosing the round",
    "validation": "validation patients, who were used to choose the round: optimistic",
    "train": "training patients: this shows the fit, not the performance on new patients",
}
"""Patients of each split, as named in a sentence after their number."""

SOURCE_LABELS = {
    "synthetic": "synthetic patients",
    "own-export": "the hospitals' own data",
    "mimic3": "MIMIC-III",
    "mimic4": "MIMIC-IV",
    "eicu": "eICU-CRD",
    "meds": "MEDS",
    "challenge-2012": "PhysioNet Challenge 2012",
    "challenge-2019": "PhysioNet Challenge 2019",
}
"""Names of the sources of site tables; any other source is shown as the site states it."""

VITAL_LABELS = {vital.name: vital.label for vital in VITALS}
VITAL_UNITS = {vital.name: vital.unit for vital in VITALS}

BETTER, WORSE, UNCLEAR, UNKNOWN = "lower", "higher", "unclear", "unknown"

MINUS = "−"  # noqa: RUF001  # the typographic minus sign
NO_BREAK = "\u00a0"
NOTHING = "–"  # noqa: RUF001  # an empty cell


def verdict(interval: IntervalJson) -> str:
    """Return what an interval of a difference supports: lower, higher, unclear, or unknown."""
    low, high = interval.get("low"), interval.get("high")
    if low is None or high is None:
        return UNKNOWN
    if high < 0:
        return BETTER
    return WORSE if low > 0 else UNCLEAR


def number(value: float | None, digits: int = 3) -> str:
    """Return a value with a fixed number of decimals and a typographic minus sign."""
    return NOTHING if value is None else f"{value:.{digits}f}".replace("-", MINUS)


def signed_number(value: float | None, digits: int) -> str:
    """Return a difference with its sign, e.g. ``+0.30``."""
    sign = "+" if value is not None and value > 0 else ""
    return f"{sign}{number(value, digits)}"


_MOST_DECIMALS = 5


def decimals_for(difference: IntervalJson, least: int = 2) -> int:
    """Return enough decimals for no end of an interval to be shown as zero."""
    ends = [abs(value) for value in (difference.get("low"), difference.get("high")) if value]
    needed = [math.ceil(-math.log10(end)) for end in ends]
    return min(max([least, *needed]), _MOST_DECIMALS)


def count_or_dash(value: Any) -> str:
    """Return a count with thousands separators; a dash if the site did not report it."""
    return NOTHING if value is None else f"{int(value):,}"


def counted(value: int, noun: str) -> str:
    """Return a count with its noun, e.g. ``1 patient`` or ``1,200 patients``."""
    return f"{value:,} {noun}{'' if value == 1 else 's'}"


def percent(share: float | None, *, signed: bool = True) -> str:
    """Return a share as per cent with two decimals, e.g. ``−3.21 %``."""  # noqa: RUF002
    if share is None:
        return NOTHING
    text = f"{100 * share:+.2f}" if signed else f"{100 * abs(share):.2f}"
    return f"{text.replace('-', MINUS)}{NO_BREAK}%"


def bounds(interval: IntervalJson) -> str:
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


def duration(minutes: float) -> str:
    """Return a time in words, e.g. ``6 hours`` or ``90 minutes``."""
    hours, rest = divmod(minutes, 60)
    value, unit = (minutes, "minute") if rest else (hours, "hour")
    return f"{value:g}{NO_BREAK}{unit}{'' if value == 1 else 's'}"


_SMALL = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


def small_number(value: int) -> str:
    """Return a number up to ten as a word, a larger one in digits."""
    return _SMALL[value] if value < len(_SMALL) else f"{value:,}"


def listed(names: Iterable[str]) -> str:
    """Return names as a list in a sentence, e.g. ``ccu, micu and sicu``; empty without a name."""
    names = list(names)
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))


LONGEST_TEXT = 300
"""Characters to which text from a site is cut, so that no name or reason fills a page."""


def clean_line(text: object, longest: int = LONGEST_TEXT) -> str:
    """Return text from a site as one printable line of at most `longest` characters."""
    line = " ".join("".join(c if c.isprintable() else " " for c in str(text)).split())
    return line if len(line) <= longest else line[: longest - 1] + "…"


def sources_in_words(sources: Iterable[object]) -> str:
    """Return the names of data sources as a list in a sentence, each once; empty if there are none.

    Args:
        sources: as the site tables state them; text from a site.
    """
    names = [SOURCE_LABELS.get(str(source), clean_line(source, 60)) for source in sources]
    return listed(sorted(filter(None, set(names)), key=str.lower)) if any(names) else ""


def difference_in_words(metric: str, interval: IntervalJson, reference: str) -> str:
    """Return a relative difference as a sentence without its full stop.

    Args:
        metric: the metric's label.
        interval: the relative difference to the reference.
        reference: name of the reference.
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
            f"95{NO_BREAK}% interval {percent(low)} to {percent(high)}"
        )
    near, far = sorted((abs(low), abs(high)))
    return (
        f"{metric} is {percent(estimate, signed=False)} {kind} than that of {reference} "
        f"(95{NO_BREAK}% interval {percent(near, signed=False)} to {percent(far, signed=False)} "
        f"{kind})"
    )
