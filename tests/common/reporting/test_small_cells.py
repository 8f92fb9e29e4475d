from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from common.data.site_table import VITAL_NAMES
from common.reporting.small_cells import LEAST_COUNT, SUPPRESSED, without_small_cells

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
    assert published["unit"] == {"micu": "*", "sicu": "*"}
    assert published["died"] == {"yes": "*", "known": "*"}
    assert published["icu_days"]["known"] == "*"
    assert published["age"]["known"] == "*"
