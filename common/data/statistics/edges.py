"""Bins, bands and hours of the statistics of a site. They are constants: nobody chooses them.

A coordinator that could choose an edge would count the patients between two edges by the difference
of two requests.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

from common.data.demographics import AGE_BANDS, SEXES

EDGES: Mapping[str, tuple[float, ...]] = {
    "heart_rate": (40, 50, 60, 70, 80, 90, 100, 110, 120, 130, 140, 150, 160, 180),
    "sbp": (60, 70, 80, 90, 100, 110, 120, 130, 140, 150, 160, 180, 200, 220),
    "dbp": (20, 30, 40, 45, 50, 55, 60, 65, 70, 75, 80, 90, 100, 120),
    "mbp": (30, 40, 50, 55, 60, 65, 70, 75, 80, 85, 90, 100, 110, 130),
    "resp_rate": (4, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 30, 35, 40),
    "temperature_c": (20, 30, 33, 34, 35, 36, 36.5, 37, 37.5, 38, 38.5, 39, 40, 42),
    "spo2": (60, 80, 85, 88, 90, 91, 92, 93, 94, 95, 96, 97, 98, 99),
}
"""Inner edges of each vital sign's histogram, in its unit: a bin holds its lower edge. The first
bin is all below the first edge, the last all from the last edge on."""

BINS = 15
"""Bins of a histogram: one more than its edges."""

HOURS = 24
"""Hours of a stay, 0 to 23, by which missing values are counted."""

STAY_EDGES_H = (12, 24, 48, 72, 168)
"""Lengths of a stay in hours at which a band begins; the first band begins at 0."""
STAY_BANDS = ("<12 h", "12-24 h", "24-48 h", "48-72 h", "72-168 h", ">=168 h")
AGE_NAMES = tuple(AGE_BANDS)
SEX_NAMES = (*SEXES, "unknown")


def bin_labels(vital: str) -> tuple[str, ...]:
    """Return the labels of a vital sign's bins, as ``<40``, ``40-50``, ``>=180``, in its unit."""
    edges = [f"{edge:g}" for edge in EDGES[vital]]
    between = (f"{low}-{high}" for low, high in pairwise(edges))
    return (f"<{edges[0]}", *between, f">={edges[-1]}")
