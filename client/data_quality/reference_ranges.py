"""What adult patients of an intensive care unit show, wide enough for septic ones.

Not limits of what is valid, which `common.data.site_table` has, but of what is believable: the
median over a unit's patients, and a single value. They tell a wrong unit or a wrong column, not a
sick patient.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Expected:
    """Believable values of a vital sign, in the unit of the site table.

    Attributes:
        median_low: least median over all patients.
        median_high: largest median over all patients.
        low: least single value.
        high: largest single value.
    """

    median_low: float
    median_high: float
    low: float
    high: float

    def has_median(self, value: float) -> bool:
        """Tell whether a median is believable."""
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
