"""Plausible values of adult ICU patients, septic ones included, per vital sign.

The valid ranges are in `common.data.vitals`. These are narrower: the plausible medians over a
unit's patients, and the plausible single values. They reveal a wrong unit or a wrong column, not a
sick patient.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Expected:
    """Plausible values of a vital sign, in the unit of the site table.

    Attributes:
        median_low: lowest median over all patients.
        median_high: highest median over all patients.
        low: lowest single value.
        high: highest single value.
    """

    median_low: float
    median_high: float
    low: float
    high: float

    def has_median(self, value: float) -> bool:
        """Return whether a median is plausible."""
        return self.median_low <= value <= self.median_high


EXPECTED: dict[str, Expected] = {
    "heart_rate": Expected(60, 115, 20, 250),
    "sbp": Expected(95, 150, 40, 280),
    "dbp": Expected(40, 85, 15, 160),
    "mbp": Expected(60, 105, 20, 200),
    "resp_rate": Expected(12, 30, 3, 65),
    "temperature_c": Expected(36.0, 38.3, 28, 43),
    "spo2": Expected(91, 100, 40, 100),
}
