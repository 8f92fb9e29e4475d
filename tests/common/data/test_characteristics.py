from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest

from common.data.characteristics import characterise
from common.data.site_table import SiteTable, SiteTableInfo, make_site_table
from common.data.splits import SPLITS
from common.data.vitals import VITAL_NAMES, VITALS
from common.data.windows import WindowSettings, make_windows

STEP_MINUTES = 30
SETTINGS = WindowSettings(context_steps=8, horizon_steps=3, stride_steps=2, min_context_observed=3)


def random_cohort(seed: int) -> tuple[dict[str, SiteTable], pd.DataFrame]:
    """Three sites with stays of odd lengths, and facts of which some are missing.

    Two sites use the same patient ids for different people.
    """
    random = np.random.default_rng(seed)
    tables, facts = {}, []
    for number, site in enumerate(("a", "b", "c")):
        rows = []
        for stay in range(int(random.integers(3, 15))):
            stay_id, patient = f"{site}{stay}", f"p{int(random.integers(0, 6))}"
            for step in range(int(random.integers(1, 40))):
                row: dict[str, Any] = {"patient_id": patient, "stay_id": stay_id, "step": step}
                for vital in VITALS:
                    seen = random.random() < 0.6
                    row[vital.name] = vital.clinical_offset + random.normal() if seen else np.nan
                rows.append(row)
            facts.append(
                {
                    "stay_id": stay_id,
                    "age": random.choice([np.nan, 18, 40, 62, 77, 89, 90, 301]),
                    "sex": random.choice(["female", "male", ""]),
                    "unit": random.choice(["micu", "sicu"]) if number else np.nan,
                    "icu_days": random.choice([np.nan, 1.5, 4.0]),
                    "septic": random.choice([True, False]),
                    "died": random.choice([True, False, np.nan]),
                }
            )
        info = SiteTableInfo(site, "made-up", "all", STEP_MINUTES)
        tables[site] = make_site_table(pd.DataFrame(rows), info)
    facts.append({"stay_id": "of nobody here", "age": 50.0, "sex": "male"})
    # A patient's first stay in time is not the first in the alphabet.
    return tables, pd.DataFrame(facts[::-1])


def quartiles(values: list[float]) -> dict[str, Any]:
    """By hand: linear interpolation between the two nearest of the sorted values."""
    if not values:
        return {"known": 0, "q1": None, "median": None, "q3": None}
    ordered, found = sorted(values), []
    for share in (0.25, 0.5, 0.75):
        place = share * (len(ordered) - 1)
        low, high = ordered[math.floor(place)], ordered[math.ceil(place)]
        found.append(pytest.approx(low + (high - low) * (place % 1), abs=1e-4))
    return {"known": len(values), **dict(zip(("q1", "median", "q3"), found, strict=True))}


def slow_group(tables: dict[str, SiteTable], facts: pd.DataFrame) -> dict[str, Any]:
    """The characteristics of some sites, one row at a time."""
    by_stay: dict[str, Any] = {str(row["stay_id"]): row for row in facts.to_dict("records")}
    order = list(by_stay)
    stays: dict[str, tuple[str, str]] = {}
    lengths: dict[str, int] = {}
    values: dict[str, list[float]] = {name: [] for name in VITAL_NAMES}
    missing = dict.fromkeys(VITAL_NAMES, 0)
    measured: dict[str, set[tuple[str, str]]] = {name: set() for name in VITAL_NAMES}
    for site, table in tables.items():
        for row in table.frame.to_dict("records"):
            stays[row["stay_id"]] = (site, row["patient_id"])
            lengths[row["stay_id"]] = lengths.get(row["stay_id"], 0) + 1
            for name in VITAL_NAMES:
                if math.isnan(row[name]):
                    missing[name] += 1
                else:
                    values[name].append(row[name])
                    measured[name].add((site, row["patient_id"]))
    first: dict[tuple[str, str], dict[str, Any]] = {}
    deaths: dict[tuple[str, str], list[bool]] = {}
    for stay in sorted(stays, key=order.index):
        first.setdefault(stays[stay], by_stay[stay])
        died = by_stay[stay]["died"]
        deaths.setdefault(stays[stay], []).extend([] if died != died else [bool(died)])
    ages = [row["age"] for row in first.values() if row["age"] == row["age"]]
    sexes = [row["sex"] for row in first.values()]
    units = [by_stay[stay]["unit"] for stay in stays]
    units = ["unknown" if unit != unit else unit for unit in units]
    known_deaths = [any(flags) for flags in deaths.values() if flags]
    days = [by_stay[stay]["icu_days"] for stay in stays]
    return {
        "patients": len(first),
        "stays": len(stays),
        "steps": sum(lengths.values()),
        "windows": sum(
            len(make_windows(table, split, SETTINGS))
            for table in tables.values()
            for split in SPLITS
        ),
        "age": quartiles([min(age, 90) for age in ages]) if ages else None,
        "over_89": sum(age > 89 for age in ages) if ages else None,
        "sex": {
            "female": sexes.count("female"),
            "male": sexes.count("male"),
            "unknown": sexes.count(""),
        }
        if any(sexes)
        else None,
        "unit": {unit: units.count(unit) for unit in sorted(set(units))}
        if set(units) != {"unknown"}
        else None,
        "icu_days": quartiles(known) if (known := [d for d in days if d == d]) else None,
        "observed_hours": quartiles([n * STEP_MINUTES / 60 for n in lengths.values()]),
        "septic": {
            "yes": sum(bool(by_stay[stay]["septic"]) for stay in stays),
            "known": len(stays),
        },
        "died": {"yes": sum(known_deaths), "known": len(known_deaths)} if known_deaths else None,
        "vitals": {
            name: {
                "missing": missing[name],
                "patients": len(measured[name]),
                **quartiles(values[name]),
            }
            for name in VITAL_NAMES
        },
    }


@pytest.mark.parametrize("seed", range(4))
def test_the_numbers_are_those_of_a_slow_count(seed: int) -> None:
    tables, facts = random_cohort(seed)
    found = characterise(tables, facts, windows=SETTINGS, sepsis="rule x")
    assert found["overall"] == slow_group(tables, facts)
    for site, table in tables.items():
        assert found["sites"][site] == slow_group({site: table}, facts)
    assert found["sepsis"] == "rule x"
    assert found["windows"]["context_steps"] == 8


def test_what_a_source_lacks_is_none() -> None:
    tables, facts = random_cohort(0)
    for known in (None, facts[["stay_id"]]):
        group = characterise(tables, known)["overall"]
        assert group["windows"] is None
        for name in ("age", "over_89", "sex", "unit", "icu_days", "septic", "died"):
            assert group[name] is None, name
        assert group["patients"] > 0
        assert group["observed_hours"]["known"] == group["stays"]
