"""Ranges and shares of the comparison as text."""

from __future__ import annotations

import math

from common.data.statistics.edges import EDGES
from common.data.vitals import VITAL_NAMES, VITALS
from common.reporting.phrasing import NO_BREAK

_DASH = "–"  # noqa: RUF001  # of a range

REMEDY_IN_MAPPING = "or name the unit in the mapping and ingest again"


def label(vital: str) -> str:
    """Return a vital's label within a sentence."""
    text = VITALS[VITAL_NAMES.index(vital)].label
    return text[0].lower() + text[1:]


def unit_of(vital: str) -> str:
    """Return a vital's unit after a number, with the space before it."""
    return NO_BREAK + VITALS[VITAL_NAMES.index(vital)].unit


def bin_bounds(vital: str, first: int, last: int) -> tuple[float, float]:
    """Return the bounds of a row of bins; infinite where open."""
    edges = (-math.inf, *EDGES[vital], math.inf)
    return float(edges[first]), float(edges[last + 1])


def bins_in_words(vital: str, first: int, last: int, unit: str | None = None) -> str:
    """Return the range of a row of bins, e.g. ``36–37 °C`` or ``below 30 °C``."""  # noqa: RUF002
    low, high = bin_bounds(vital, first, last)
    return value_range(low, high, unit_of(vital) if unit is None else unit)


def value_range(low: float, high: float, unit: str = "") -> str:
    """Return a range that may be open at one or both ends."""
    if math.isinf(low) and math.isinf(high):
        return "anything"
    if math.isinf(low):
        return f"below {high:.4g}{unit}"
    if math.isinf(high):
        return f"{low:.4g}{unit} or more"
    if f"{low:.4g}" == f"{high:.4g}":
        return f"{low:.4g}{unit}"
    return f"{low:.4g}{_DASH}{high:.4g}{unit}"


def share_in_words(low: float, high: float | None = None) -> str:
    """Return a share in per cent, or the bounds between which it is, without false precision."""
    high = low if high is None else high
    # Rounded outwards, so that the text is never narrower than the bounds.
    ends = math.floor(100 * low + 1e-9), math.ceil(100 * high - 1e-9)
    if 100 * (high - low) < 0.5:
        return f"{50 * (low + high):.0f}{NO_BREAK}%"
    if ends[0] <= 0:
        return f"at most {min(ends[1], 100)}{NO_BREAK}%"
    if ends[1] >= 100:
        return f"at least {ends[0]}{NO_BREAK}%"
    return f"{ends[0]}{_DASH}{ends[1]}{NO_BREAK}%"


def count_in_words(low: float, high: float | None = None) -> str:
    """Return a count, or the bounds between which it is."""
    high = low if high is None else high
    if math.isinf(high):
        return f"at least {math.floor(low):,}" if low > 0 else "an unknown number"
    ends = math.floor(low + 1e-9), math.ceil(high - 1e-9)
    return f"{ends[0]:,}" if ends[0] == ends[1] else f"{ends[0]:,}{_DASH}{ends[1]:,}"
