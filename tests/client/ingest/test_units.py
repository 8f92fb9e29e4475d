"""Units by range: Python and SQL against a slow obvious reference."""

from __future__ import annotations

import math

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.ingest.units import (
    UNITS,
    check_units_by_range,
    unit_by_range,
    unit_by_range_sql,
    unit_ranges,
    unit_rows,
)
from common.data.vitals import VITAL_NAMES, VITALS
from common.errors import UsageError
from common.forecasting.reference_ranges import EXPECTED

MIXTURES = {
    "temperature_c": (("degC", "degF"), ("degF", "K"), ("degC", "degF", "K")),
    "sbp": (("mmHg", "kPa"), ("kPa", "cmH2O")),
    "dbp": (("mmHg", "kPa"),),
    "mbp": (("kPa", "mmHg"),),
    "spo2": (("%", "fraction"),),
}
CASES = [(vital, units) for vital, many in MIXTURES.items() for units in many]
TO_SITE_UNIT = {
    "degC": lambda x: x,
    "degF": lambda x: (x - 32) / 1.8,
    "K": lambda x: x - 273.15,
    "mmHg": lambda x: x,
    "kPa": lambda x: x * 1000 / 133.322387415,
    "cmH2O": lambda x: x * 98.0665 / 133.322387415,
    "%": lambda x: x,
    "fraction": lambda x: x * 100,
}


def reference(vital: str, units: tuple[str, ...], value: float) -> str:
    """The unit by the rule in words: "impossible", "ambiguous" or the unit's name."""
    limits, expected = VITALS[VITAL_NAMES.index(vital)], EXPECTED[vital]
    possible, plausible = [], []
    for unit in units:
        converted = TO_SITE_UNIT[unit](value)
        inside = limits.low < converted < limits.high
        if limits.high_included and math.isclose(converted, limits.high):
            inside = True
        if inside:
            possible.append(unit)
            if expected.low <= converted <= expected.high:
                plausible.append(unit)
    if len(possible) == 1:
        return possible[0]
    if len(plausible) == 1:
        return plausible[0]
    return "ambiguous" if possible else "impossible"


def near_a_limit(vital: str, units: tuple[str, ...], value: float) -> bool:
    """True within rounding of a limit, where two ways of the same conversion may differ."""
    limits, expected = VITALS[VITAL_NAMES.index(vital)], EXPECTED[vital]
    edges = (limits.low, limits.high, expected.low, expected.high)
    return any(
        math.isclose(TO_SITE_UNIT[unit](value), edge, rel_tol=1e-9, abs_tol=1e-9)
        for unit in units
        for edge in edges
    )


@given(st.sampled_from(CASES), st.lists(st.floats(-20, 700), min_size=1, max_size=30))
def test_each_value_is_read_in_the_unit_of_its_range(
    case: tuple[str, tuple[str, ...]], values: list[float]
) -> None:
    vital, units = case
    ranges = check_units_by_range(vital, units)
    values = [value for value in values if not near_a_limit(vital, units, value)]
    with duckdb.connect() as connection:
        rows = connection.execute(
            f"SELECT {unit_by_range_sql(ranges, 'x')} FROM (SELECT unnest(?::DOUBLE[]) AS x)",
            [values],
        ).fetchall()
    for value, (by_sql,) in zip(values, rows, strict=True):
        expected = reference(vital, units, value)
        found = unit_by_range(ranges, value)
        assert (found.unit.name if found else None) == (expected if expected in units else None)
        # The first unit, in which it is impossible, makes it an impossible value.
        names = {"ambiguous": "??", "impossible": units[0].lower()}
        assert by_sql == names.get(expected, expected.lower())


@pytest.mark.parametrize(
    ("vital", "value", "unit"),
    [
        ("temperature_c", 98.6, "degF"),
        ("temperature_c", 37.0, "degC"),
        ("temperature_c", 50.0, None),
        ("temperature_c", 7.0, None),
        ("sbp", 120, "mmHg"),
        ("sbp", 16.0, "kPa"),
        ("dbp", 18, None),
        ("spo2", 0.97, "fraction"),
        ("spo2", 1.0, "fraction"),
        ("spo2", 35, "%"),
        ("spo2", 0.2, None),
    ],
)
def test_values_of_two_units(vital: str, value: float, unit: str | None) -> None:
    names = [one.name for one in UNITS[vital] if one.name not in ("K", "cmH2O")]
    found = unit_by_range(unit_ranges(vital, names), value)
    assert (found.unit.name if found else None) == unit


@pytest.mark.parametrize(
    ("vital", "units"),
    [
        ("sbp", ("mmHg", "cmH2O")),
        ("mbp", ("mmHg", "kPa", "cmH2O")),
        ("heart_rate", ("bpm", "bpm")),
        ("spo2", ("%",)),
    ],
)
def test_units_that_no_range_tells_apart_are_refused(vital: str, units: tuple[str, ...]) -> None:
    with pytest.raises(UsageError):
        check_units_by_range(vital, units)


def test_a_conversion_is_inverted() -> None:
    for units in UNITS.values():
        for unit in units:
            assert unit.convert(unit.invert(37.0)) == pytest.approx(37.0)


def test_the_mappings_own_texts_have_priority() -> None:
    rows = {
        (vital, text): name for vital, text, name, *_ in unit_rows({"C": "degF", "8653": "degC"})
    }
    temperature = VITAL_NAMES.index("temperature_c")
    assert rows[temperature, "c"] == "degf"
    assert rows[temperature, "8653"] == "degc"
    assert rows[temperature, "9289.0"] == "degf", "as pandas writes whole numbers with gaps"
    assert (VITAL_NAMES.index("spo2"), "8653") not in rows
