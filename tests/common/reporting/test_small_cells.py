from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from common.data.vitals import VITAL_NAMES
from common.reporting.small_cells import (
    LEAST_COUNT,
    OTHER_UNITS,
    SUPPRESSED,
    without_small_cells,
)

SEXES = ("female", "male", "unknown")


def quartiles(known: int) -> dict[str, Any]:
    return {"known": known, "q1": 1.0, "median": 2.0, "q3": 3.0}


def group(sex: dict[str, int], older: int = 0, died: int = 0, units: Any = None) -> dict[str, Any]:
    patients = sum(sex.values())
    return {
        "patients": patients,
        "stays": patients,
        "steps": 24 * patients,
        "windows": patients,
        "age": quartiles(patients),
        "over_89": min(older, patients),
        "sex": sex,
        "unit": units,
        "icu_days": quartiles(patients),
        "observed_hours": quartiles(patients),
        "septic": None,
        "died": {"yes": min(died, patients), "known": patients},
        "vitals": {name: {"missing": 0, **quartiles(patients)} for name in VITAL_NAMES},
    }


def cohort(*sites: dict[str, Any]) -> dict[str, Any]:
    sex = {name: sum(site["sex"][name] for site in sites) for name in SEXES}
    died = sum(site["died"]["yes"] for site in sites)
    older = sum(site["over_89"] for site in sites)
    named = {f"site-{number}": site for number, site in enumerate(sites)}
    return {"windows": None, "sepsis": "", "overall": group(sex, older, died), "sites": named}


COUNTS = st.one_of(st.integers(0, 15), st.integers(0, 300))


@given(st.lists(st.tuples(COUNTS, COUNTS, COUNTS, COUNTS, COUNTS), min_size=1, max_size=5))
def test_no_small_count_is_shown_or_follows_from_a_total(rows: list[tuple[int, ...]]) -> None:
    sites = [group(dict(zip(SEXES, row[:3], strict=True)), row[3], row[4]) for row in rows]
    before = cohort(*sites)
    after = without_small_cells(before)
    groups = {"overall": after["overall"], **after["sites"]}
    shown = {name: one["sex"] for name, one in groups.items()}
    for name, counts in shown.items():
        assert not any(0 < n < LEAST_COUNT for n in counts.values() if n != SUPPRESSED)
        # Of the parts of a known total, none or at least two are hidden.
        hidden = [n for n in counts.values() if n == SUPPRESSED]
        rest = [n for n in counts.values() if n != SUPPRESSED and n]
        assert len(hidden) != 1 or not rest, name
    for category in SEXES:
        line = [counts[category] for counts in shown.values()]
        hidden = [n for n in line if n == SUPPRESSED]
        assert len(hidden) != 1 or not any(n for n in line if n != SUPPRESSED)
    for one in groups.values():
        died = one["died"]["yes"]
        if died != SUPPRESSED:
            assert not 0 < died < LEAST_COUNT
            assert not 0 < one["patients"] - died < LEAST_COUNT
        if one["patients"] < LEAST_COUNT:
            assert one["age"]["median"] is None
            assert one["vitals"]["spo2"]["median"] is None


def ranges_left(groups: dict[str, Any], name: str, total: str) -> dict[tuple[str, str], float]:
    """Return the width of the range that the known sums leave each suppressed count."""
    cells = [(group, key) for group, one in groups.items() for key in one[name]]
    given = {cell: groups[cell[0]][name][cell[1]] for cell in cells}
    place = {cell: number for number, cell in enumerate(cells)}
    rows, sums = [], []

    def add(weights: dict[tuple[str, str], int], value: int) -> None:
        row = np.zeros(len(cells))
        for cell, weight in weights.items():
            row[place[cell]] = weight
        rows.append(row)
        sums.append(value)

    for group, one in groups.items():
        add({(group, key): 1 for key in one[name]}, one[total])
    for key in {cell[1] for cell in cells}:
        line = [cell for cell in cells if cell[1] == key]
        add({cell: -1 if cell[0] == "overall" else 1 for cell in line}, 0)
    for cell, count in given.items():
        if count != SUPPRESSED:
            add({cell: 1}, count)
    left = {}
    for cell in (cell for cell in cells if given[cell] == SUPPRESSED):
        goal = np.eye(len(cells))[place[cell]]
        low, high = (
            linprog(sign * goal, A_eq=np.array(rows), b_eq=sums).fun * sign for sign in (1, -1)
        )
        left[cell] = high - low
    return left


TINY = st.one_of(st.just(0), st.integers(0, 3), st.integers(0, 15), st.integers(0, 300))


@settings(max_examples=60)
@given(st.lists(st.tuples(TINY, TINY, TINY), min_size=1, max_size=6))
def test_no_suppressed_count_is_the_only_solution_of_all_sums(
    rows: list[tuple[int, int, int]],
) -> None:
    before = cohort(*(group(dict(zip(SEXES, row, strict=True))) for row in rows))
    after = without_small_cells(before)
    groups = {"overall": after["overall"], **after["sites"]}
    for cell, width in ranges_left(groups, "sex", "patients").items():
        assert width > 0.5, cell


@pytest.mark.parametrize(
    ("rows", "shown"),
    [
        # All five patients are women: the count is the total that is published.
        ([(5, 0, 0), (60, 50, 0), (70, 80, 0)], [("*", "*", 0), ("*", "*", 0), (70, 80, 0)]),
        # Two ones: their sum of two, which follows from the total, would say each.
        (
            [(1, 60, 0), (1, 50, 0), (30, 70, 0)],
            [("*", "*", 0), ("*", "*", 0), ("*", "*", 0)],
        ),
    ],
)
def test_what_follows_from_a_total_is_suppressed_too(
    rows: list[tuple[int, int, int]], shown: list[tuple[Any, ...]]
) -> None:
    sites = (group(dict(zip(SEXES, row, strict=True)), 20) for row in rows)
    published = without_small_cells(cohort(*sites))
    assert [tuple(one["sex"].values()) for one in published["sites"].values()] == shown


def test_quartiles_of_few_patients_are_left_out_whatever_else_is_suppressed() -> None:
    one = group({"female": 60, "male": 60, "unknown": 0})
    one["age"] = quartiles(5)  # of 120 patients, five ages are recorded
    one["vitals"]["spo2"] = {"missing": 0, "patients": 2, **quartiles(96)}
    one["vitals"]["sbp"] = {"missing": 0, "patients": 12, **quartiles(96)}
    whole = {"windows": None, "sepsis": "", "overall": one, "sites": {"a": copy.deepcopy(one)}}
    published = without_small_cells(whole)["sites"]["a"]
    assert published["age"] == {"known": "*", "q1": None, "median": None, "q3": None}
    assert published["vitals"]["spo2"]["median"] is None
    assert published["vitals"]["sbp"] == {"missing": 0, **quartiles(96)}


def test_known_lengths_of_stay_cannot_be_subtracted() -> None:
    sites = [group({"female": 60, "male": 60, "unknown": 0}, 20, 20) for _ in range(3)]
    whole = cohort(*sites)
    for place, known in enumerate((117, 100, 120)):
        sites[place]["icu_days"] = quartiles(known)
    whole["overall"]["icu_days"] = quartiles(337)
    published = without_small_cells(whole)
    shown = [one["icu_days"]["known"] for one in published["sites"].values()]
    assert shown == ["*", "*", 120]


def test_rare_units_lose_their_names() -> None:
    units = [{"micu": 90, "bed of Ms Smith": 4, "burns": 6}, {"micu": 95, "burns": 5}]
    sites = [group({"female": 60, "male": 40, "unknown": 0}, 20, 20, one) for one in units]
    whole = cohort(*sites)
    whole["overall"]["unit"] = {"micu": 185, "bed of Ms Smith": 4, "burns": 11}
    published = without_small_cells(whole)
    assert "Smith" not in repr(published)
    assert published["overall"]["unit"].keys() == {"micu", "burns", OTHER_UNITS}


def test_large_counts_are_kept_and_the_original_is_not_changed() -> None:
    large = cohort(group({"female": 40, "male": 60, "unknown": 0}, 12, 20))
    assert without_small_cells(large) == large
    small = cohort(
        group({"female": 3, "male": 60, "unknown": 0}, 12, 20),
        group({"female": 50, "male": 60, "unknown": 0}, 12, 20),
        group({"female": 30, "male": 70, "unknown": 0}, 12, 20),
    )
    published = without_small_cells(small)
    assert small["sites"]["site-0"]["sex"]["female"] == 3
    # The second smallest goes too, or the total would give the smallest away.
    assert [one["sex"]["female"] for one in published["sites"].values()] == ["*", 50, "*"]
    assert published["overall"]["sex"]["female"] == 83
    assert published["sites"]["site-1"]["died"] == {"yes": 20, "known": 110}


def test_units_and_unknown_values_are_covered() -> None:
    one = group({"female": 40, "male": 60, "unknown": 0}, 20, 20, {"micu": 95, "sicu": 5})
    one["died"] = {"yes": 40, "known": 97}
    one["icu_days"]["known"] = 98
    one["age"]["known"] = 95
    whole = {"windows": None, "sepsis": "", "overall": one, "sites": {"a": {**one}}}
    published = without_small_cells(whole)["sites"]["a"]
    assert published["unit"] == {"micu": "*", OTHER_UNITS: "*"}
    assert published["died"] == {"yes": "*", "known": "*"}
    assert published["icu_days"]["known"] == "*"
    assert published["age"]["known"] == "*"


def test_a_few_values_of_a_vital_sign_do_not_follow_from_the_missing_ones() -> None:
    """Three values are of three patients at most; 717 missing of 720 steps would say so."""
    sites = [group({"female": 15, "male": 15, "unknown": 0}, 20, 20) for _ in range(3)]
    whole = cohort(*sites)
    for one, known in zip((*sites, whole["overall"]), (3, 300, 400, 703), strict=True):
        one["vitals"]["spo2"] = {"missing": one["steps"] - known, **quartiles(known)}
    published = without_small_cells(whole)
    shown = [one["vitals"]["spo2"]["missing"] for one in published["sites"].values()]
    assert shown == ["*", "*", 320]
    assert published["overall"]["vitals"]["spo2"]["missing"] == whole["overall"]["steps"] - 703
    assert published["sites"]["site-0"]["vitals"]["sbp"]["missing"] == 0


def test_a_unit_named_as_the_pooled_ones_loses_no_stay() -> None:
    one = group({"female": 60, "male": 60, "unknown": 0}, 20, 20, {OTHER_UNITS: 30, "a": 4})
    whole = {"windows": None, "sepsis": "", "overall": one, "sites": {"x": copy.deepcopy(one)}}
    assert without_small_cells(whole)["overall"]["unit"] == {OTHER_UNITS: 34}
