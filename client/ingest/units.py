"""Units in which hospitals chart vital signs, and their conversion to the site table's units.

A value is converted as ``(value - subtract) * multiply / divide``: one formula for SQL and Python,
exact for a unit that needs no conversion.
"""

from __future__ import annotations

from dataclasses import dataclass

from common.data.site_table import VITALS
from common.errors import UsageError


@dataclass(frozen=True)
class Unit:
    """A unit of one kind of quantity.

    Attributes:
        name: its name in a mapping.
        spellings: other spellings, in lower case and without blanks.
        subtract: see the module.
        multiply: see the module.
        divide: see the module.
    """

    name: str
    spellings: tuple[str, ...]
    subtract: float = 0.0
    multiply: float = 1.0
    divide: float = 1.0

    def convert(self, value: float) -> float:
        """Return a value in the unit of the site table."""
        return (value - self.subtract) * self.multiply / self.divide


_RATE_SPELLINGS = ("/min", "1/min", "min-1", "min^-1", "permin", "perminute", "/minute")
_PRESSURE = (
    Unit("mmHg", ("mm[hg]", "torr")),
    # The conventional millimetre of mercury is 133.322387415 Pa.
    Unit("kPa", (), multiply=1000.0, divide=133.322387415),
    Unit("cmH2O", ("cm[h2o]",), multiply=98.0665, divide=133.322387415),
)

UNITS: dict[str, tuple[Unit, ...]] = {
    "heart_rate": (
        Unit("bpm", (*_RATE_SPELLINGS, "beats/min", "beat/min", "beats/minute", "{beats}/min")),
    ),
    "sbp": _PRESSURE,
    "dbp": _PRESSURE,
    "mbp": _PRESSURE,
    "resp_rate": (
        Unit(
            "breaths/min",
            (*_RATE_SPELLINGS, "insp/min", "br/min", "bpm", "rpm", "resp/min", "{breaths}/min"),
        ),
    ),
    "temperature_c": (
        Unit("degC", ("°c", "c", "cel", "celsius", "deg.c", "gradc", "?c", "ºc")),
        Unit("degF", ("°f", "f", "[degf]", "fahrenheit", "deg.f", "?f", "ºf"), 32.0, 1.0, 1.8),
        Unit("K", ("kelvin",), subtract=273.15),
    ),
    "spo2": (
        Unit("%", ("percent", "pct", "%sat")),
        Unit("fraction", ("ratio",), multiply=100.0),
    ),
}
"""The units of each vital sign; the first is that of the site table."""


def normalised(text: str) -> str:
    """Return a unit's text in lower case without blanks, for comparison."""
    return "".join(text.split()).lower()


def spellings(unit: Unit) -> tuple[str, ...]:
    """Return all spellings of a unit, normalised."""
    return (normalised(unit.name), *unit.spellings)


def check_unit(vital: str, text: str) -> Unit:
    """Return the unit of a vital by one of its spellings.

    Raises:
        UsageError: unknown; lists the vital's units.
    """
    for unit in UNITS[vital]:
        if normalised(text) in spellings(unit):
            return unit
    known = ", ".join(unit.name for unit in UNITS[vital])
    raise UsageError(f"{vital} has no unit {text!r}; known are: {known}")


def unit_rows() -> list[tuple[int, str, float, float, float]]:
    """Return vital index, spelling and conversion of every unit; no text = the vital's own."""
    rows = []
    for index, vital in enumerate(VITALS):
        for place, unit in enumerate(UNITS[vital.name]):
            texts = dict.fromkeys(spellings(unit)) | ({"": None} if place == 0 else {})
            rows += [(index, text, unit.subtract, unit.multiply, unit.divide) for text in texts]
    return rows
