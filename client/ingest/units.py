"""Units in which hospitals chart vital signs, and their conversion to the site table's units.

A value is converted as ``(value - subtract) * multiply / divide``: one formula for SQL and Python,
exact for a unit that needs no conversion.

In a column of several units a value is read by its range (`unit_by_range`): in the one unit in
which it is possible; of several, in the one in which it is also plausible; else it is ambiguous.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from client.ingest.duckdb_helpers import literal, literals
from common.data.vitals import VITAL_NAMES, VITALS
from common.errors import UsageError
from common.forecasting.reference_ranges import EXPECTED


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

    def invert(self, value: float) -> float:
        """Return a value of the site table in this unit."""
        return value * self.divide / self.multiply + self.subtract


@dataclass(frozen=True)
class UnitRange:
    """Ranges of a vital sign's values in one unit, in that unit.

    Attributes:
        unit: the unit.
        low: possible values are above this.
        high: possible values are below this, or at most this where `high_included`.
        high_included: see `high`.
        plausible_low: least plausible value.
        plausible_high: greatest plausible value.
    """

    unit: Unit
    low: float
    high: float
    high_included: bool
    plausible_low: float
    plausible_high: float

    def is_possible(self, value: float) -> bool:
        """Return whether a value in this unit is in the site table's valid range."""
        return self.low < value and (
            value < self.high or (self.high_included and value == self.high)
        )

    def is_plausible(self, value: float) -> bool:
        """Return whether a possible value is plausible in intensive care."""
        return self.is_possible(value) and self.plausible_low <= value <= self.plausible_high


# Numbers are unit concepts of the OMOP vocabulary (8483 counts per minute, 8541 per minute).
_PER_MINUTE = ("/min", "1/min", "min-1", "min^-1", "permin", "perminute", "/minute")
_RATE_SPELLINGS = (*_PER_MINUTE, "8483", "8541")
_PRESSURE = (
    Unit("mmHg", ("mm[hg]", "torr", "8876")),
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
        Unit("degC", ("°c", "c", "cel", "celsius", "deg.c", "gradc", "?c", "ºc", "586323")),
        Unit(
            "degF", ("°f", "f", "[degf]", "fahrenheit", "deg.f", "?f", "ºf", "9289"), 32.0, 1.0, 1.8
        ),
        Unit("K", ("kelvin",), subtract=273.15),
    ),
    "spo2": (
        Unit("%", ("percent", "pct", "%sat", "8554")),
        Unit("fraction", ("ratio",), multiply=100.0),
    ),
}
"""The units of each vital sign; the first is that of the site table."""

AMBIGUOUS = "??"
"""Name of the unit of a value that fits several."""

TRAILING_UNIT = r"^([+-]?(?:[0-9]+[.,]?[0-9]*|[.,][0-9]+))\s*([^0-9\s.,+-].*)$"
"""Pattern of a number followed by a unit, as in ``88 bpm``; RE2 and Python read it alike."""


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


def unit_of_any_vital(text: str) -> Unit:
    """Return the unit of any vital sign by one of its spellings.

    Raises:
        UsageError: no vital sign has it; lists all units.
    """
    every = dict.fromkeys(unit for units in UNITS.values() for unit in units)
    for unit in every:
        if normalised(text) in spellings(unit):
            return unit
    known = ", ".join(dict.fromkeys(unit.name for unit in every))
    raise UsageError(f"no vital sign has a unit {text!r}; known are: {known}")


def unit_rows(
    named: Mapping[str, str] | None = None,
) -> list[tuple[int, str, str, float, float, float]]:
    """List the spellings of every unit, with the mapping's own.

    Args:
        named: `[units]` of the mapping: text in the table to unit; has priority.

    Returns:
        Index of the vital, spelling, normalised name of the unit, and its conversion. No text is
        the vital's own unit.
    """
    own = {normalised(text): name for text, name in (named or {}).items()}
    rows = []
    for index, vital in enumerate(VITALS):
        places: dict[str, Unit] = {"": UNITS[vital.name][0]}
        for unit in UNITS[vital.name]:
            for text in spellings(unit):
                places[text] = unit
                if text.isdecimal():
                    # As pandas writes whole numbers of which some are missing.
                    places[f"{text}.0"] = unit
            for text, name in own.items():
                if normalised(name) in spellings(unit):
                    places[text] = unit
        rows += [
            (index, text, normalised(unit.name), unit.subtract, unit.multiply, unit.divide)
            for text, unit in places.items()
        ]
    return rows


def unit_ranges(vital: str, names: Sequence[str]) -> list[UnitRange]:
    """Return the ranges of a vital sign in some of its units, in the given order.

    Raises:
        UsageError: a unit is unknown.
    """
    limits, expected = VITALS[VITAL_NAMES.index(vital)], EXPECTED[vital]
    ranges = []
    for name in names:
        unit = check_unit(vital, name)
        bounds = (limits.low, limits.high, expected.low, expected.high)
        low, high, plausible_low, plausible_high = map(unit.invert, bounds)
        ranges.append(
            UnitRange(unit, low, high, limits.high_included, plausible_low, plausible_high)
        )
    return ranges


def unit_by_range(ranges: Sequence[UnitRange], value: float) -> UnitRange | None:
    """Return the unit that a value is in by its range; None if none or several fit."""
    possible = [one for one in ranges if one.is_possible(value)]
    if len(possible) > 1:
        possible = [one for one in possible if one.is_plausible(value)]
    return possible[0] if len(possible) == 1 else None


def check_units_by_range(vital: str, names: Sequence[str]) -> list[UnitRange]:
    """Return the ranges of units that a column mixes, if a typical value tells them apart.

    Raises:
        UsageError: fewer than two units, an unknown one, or two that have the same typical values.
    """
    ranges = unit_ranges(vital, names)
    if len({one.unit.name for one in ranges}) != len(ranges) or len(ranges) < 2:
        known = ", ".join(unit.name for unit in UNITS[vital])
        raise UsageError(f"takes two or more different units of {vital}; known are: {known}")
    expected = EXPECTED[vital]
    for one in ranges:
        for typical in (expected.median_low, expected.median_high):
            value = one.unit.invert(typical)
            if unit_by_range(ranges, value) is not one:
                raise UsageError(
                    f"{', '.join(names)} cannot be told apart by range ({value:.3g} is a usual "
                    "value in more than one of them); name the column of units instead"
                )
    return ranges


def unit_by_range_sql(ranges: Sequence[UnitRange], number: str) -> str:
    """Return the SQL of the name of the unit that `unit_by_range` gives.

    Args:
        ranges: of the units.
        number: SQL of the value.

    Returns:
        `AMBIGUOUS` if several units fit; the first unit if none does, in which it is impossible.
    """
    possible = [
        f"({number} > {one.low!r} AND {number} {'<=' if one.high_included else '<'} {one.high!r})"
        for one in ranges
    ]
    plausible = [
        f"({inside} AND {number} BETWEEN {one.plausible_low!r} AND {one.plausible_high!r})"
        for inside, one in zip(possible, ranges, strict=True)
    ]
    names = [literal(normalised(one.unit.name)) for one in ranges]
    cases = [f"WHEN NOT ({' OR '.join(possible)}) THEN {names[0]}"]
    for fits in (possible, plausible):
        for place, name in enumerate(names):
            others = " OR ".join(fits[:place] + fits[place + 1 :])
            cases.append(f"WHEN {fits[place]} AND NOT ({others}) THEN {name}")
    return f"CASE {' '.join(cases)} ELSE '{AMBIGUOUS}' END"


def unit_name_sql(vital: str, text: str, named: Mapping[str, str]) -> str:
    """Return the SQL of the name of a unit by a spelling, NULL if the vital has no such unit.

    Args:
        vital: SQL of the vital's index.
        text: SQL of the spelling, as `normalised_sql` gives it.
        named: `[units]` of the mapping.
    """
    spelt: dict[tuple[int, str], list[str]] = {}
    for index, spelling, name, *_ in unit_rows(named):
        if spelling:
            spelt.setdefault((index, name), []).append(spelling)
    cases = " ".join(
        f"WHEN {vital} = {index} AND {text} IN ({literals(spellings)}) THEN {literal(name)}"
        for (index, name), spellings in spelt.items()
    )
    return f"CASE {cases} END"


def normalised_sql(text: str) -> str:
    """Return the SQL of a text as `normalised` writes it."""
    return f"lower(regexp_replace({text}, '\\s', '', 'g'))"
