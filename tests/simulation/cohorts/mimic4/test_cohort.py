from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from common.data.cohort_writer import Cohort
from common.errors import SourceError, UsageError
from simulation.cohorts.mimic4.care_units import CARE_UNITS, SITE_OF_UNIT
from simulation.cohorts.mimic4.cohort import Mimic4Settings, mimic4_cohort
from tests.simulation.cohorts.mimic4.tables import END, START, Hospital


def cohort_of(hospital: Hospital, folder: Path, **settings: Any) -> Cohort:
    return mimic4_cohort(
        hospital.write(folder), Mimic4Settings(**{"sepsis": "none", "min_hours": 0, **settings})
    )


def patients_in(cohort: Cohort) -> list[int]:
    """The patients of all sites, ascending."""
    return sorted({int(n) for rows in cohort.sites.values() for n in rows["patient_id"]})


def counts(cohort: Cohort) -> dict[str, int]:
    return {step.label: step.total for step in cohort.flow.steps}


def test_each_care_unit_is_a_site_and_others_are_counted(tmp_path: Path) -> None:
    hospital = Hospital()
    for n, unit in enumerate([*SITE_OF_UNIT, "Medicine"], start=1):
        hospital.patient(n, unit=unit)
    cohort = cohort_of(hospital, tmp_path)
    assert sorted(cohort.sites) == sorted(CARE_UNITS)
    assert counts(cohort)["ICU stays in the source"] == 10
    assert counts(cohort)["known care units"] == 9
    assert cohort.flow.steps[0].kept["other"] == 1


def test_units_narrow_the_cohort(tmp_path: Path) -> None:
    hospital = Hospital()
    for n, unit in enumerate(SITE_OF_UNIT, start=1):
        hospital.patient(n, unit=unit)
    cohort = cohort_of(hospital, tmp_path, units=("micu-sicu", "ccu"))
    assert sorted(cohort.sites) == ["ccu", "micu-sicu"]


@pytest.mark.parametrize(
    ("anchor_age", "anchor_year", "age"),
    [(50, 2150, 50), (50, 2140, 60), (17, 2150, None), (17, 2149, 18), (91, 2150, 91)],
)
def test_the_age_is_that_at_admission(
    tmp_path: Path, anchor_age: int, anchor_year: int, age: int | None
) -> None:
    hospital = Hospital()
    hospital.patient(1, age=anchor_age, anchor_year=anchor_year)
    cohort = cohort_of(hospital, tmp_path)
    assert cohort.stays is not None
    assert cohort.stays["age"].tolist() == ([] if age is None else [age])
    assert counts(cohort)["adults (18 years or older)"] == (age is not None)


def test_the_facts_of_a_stay_are_those_of_the_tables(tmp_path: Path) -> None:
    hospital = Hospital()
    hospital.patient(1, gender="M")
    hospital.patient(2)
    hospital.patient(3)
    of_death = "2150-06-11 00:00:00"
    first, second, third = hospital.rows["hosp/admissions"]
    hospital.rows["hosp/admissions"] = [
        first,
        [*second[:4], of_death, *second[5:]],
        [*third[:6], "DIED", ""],
    ]
    hospital.diagnose(1, "R6520", 10)
    cohort = cohort_of(hospital, tmp_path)
    assert cohort.stays is not None
    facts = cohort.stays.set_index("stay_id")
    assert facts["sex"].tolist() == ["male", "female", "female"]
    assert facts["died"].tolist() == [False, True, True]
    assert facts["septic"].tolist() == [True, False, False]
    days = (pd.Timestamp(END) - pd.Timestamp(START)).total_seconds() / 86400
    assert facts["icu_days"].tolist() == pytest.approx([days] * 3)
    assert cohort.sepsis == "rule explicit"


def test_a_patient_stays_in_the_first_unit(tmp_path: Path) -> None:
    hospital = Hospital()
    hospital.patient(1)
    hospital.stay(1, 201, "Trauma SICU (TSICU)", "2150-06-12 00:00:00", "2150-06-13 00:00:00")
    hospital.chart(1, 220045, "2150-06-12 05:00:00", 90)
    cohort = cohort_of(hospital, tmp_path)
    assert {site: set(rows["stay_id"]) for site, rows in cohort.sites.items()} == {"micu": {"101"}}


# --- sepsis by codes ------------------------------------------------------------------------------


def test_explicit_takes_the_codes_of_both_versions(tmp_path: Path) -> None:
    hospital = Hospital()
    codes = [
        *[("99592", 9), ("78552", 9), ("R6520", 10), ("R6521", 10)],
        *[("99591", 9), ("A419", 10), ("R6510", 10), ("99592", 10), ("R6520", 9)],
    ]
    for n, (code, version) in enumerate(codes, start=1):
        hospital.patient(n)
        hospital.diagnose(n, code, version)
    hospital.patient(99)
    cohort = cohort_of(hospital, tmp_path, sepsis="explicit")
    assert patients_in(cohort) == [1, 2, 3, 4]
    assert counts(cohort)["sepsis by the rule explicit"] == 4


@pytest.mark.parametrize(("rule", "kept"), [("angus", [1, 2, 3]), ("martin", [2])])
def test_angus_and_martin_select_admissions_of_icd9(
    tmp_path: Path, rule: str, kept: list[int]
) -> None:
    hospital = Hospital()
    for n in range(1, 6):
        hospital.patient(n)
    for n, code in [(1, "486"), (1, "5849"), (2, "0389"), (2, "5849"), (3, "486"), (4, "486")]:
        hospital.diagnose(n, code, 9)
    hospital.treat(3, "9671", 9)
    # A code of ICD-10-PCS, equal in text.
    hospital.treat(4, "9671", 10)
    assert patients_in(cohort_of(hospital, tmp_path, sepsis=rule)) == kept


@pytest.mark.parametrize("rule", ["angus", "martin"])
def test_angus_and_martin_are_refused_where_candidates_are_coded_in_icd10(
    tmp_path: Path, rule: str
) -> None:
    hospital = Hospital()
    hospital.patient(1)
    hospital.diagnose(1, "0389", 9)
    hospital.diagnose(1, "5849", 9)
    # No candidate: a minor.
    hospital.patient(2, age=15)
    hospital.diagnose(2, "A419", 10)
    assert patients_in(cohort_of(hospital, tmp_path / "first", sepsis=rule)) == [1]
    hospital.patient(3)
    hospital.diagnose(3, "A419", 10)
    hospital.diagnose(3, "N179", 10)
    with pytest.raises(SourceError, match=rf"{rule} is published for ICD-9 alone, and 1 of the 2"):
        cohort_of(hospital, tmp_path / "second", sepsis=rule)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sepsis": "sepsis4"}, "--sepsis 'sepsis4' is not known"),
        ({"units": ("micu", "csru")}, "--units 'csru' is not known"),
        ({"units": ()}, "--units is empty"),
        ({"step_minutes": 0}, "--step-minutes must be at least 1, got 0"),
        ({"min_hours": -1}, "--min-hours must not be negative"),
    ],
)
def test_settings_that_mean_nothing_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Mimic4Settings(**settings)


# --- vital signs ----------------------------------------------------------------------------------


ITEMS: list[tuple[int, str, float, float | None]] = [
    (220045, "heart_rate", 299.9, 299.9),
    (220045, "heart_rate", 0, None),
    (220045, "heart_rate", 300, None),
    (220179, "sbp", 120, 120),
    (225309, "sbp", 120, 120),
    (220051, "dbp", 60, 60),
    (225312, "mbp", -27, None),
    (224690, "resp_rate", 69, 69),
    (224690, "resp_rate", 70, None),
    (223761, "temperature_c", 98.6, 37.0),
    (223761, "temperature_c", 70, None),
    (223761, "temperature_c", 37, None),
    (223762, "temperature_c", 37, 37.0),
    (223762, "temperature_c", 98.6, None),
    (226329, "temperature_c", 37, None),
    (220277, "spo2", 100, 100),
    (220277, "spo2", 100.1, None),
    (211, "heart_rate", 80, None),
]


def test_items_units_and_ranges(tmp_path: Path) -> None:
    hospital = Hospital()
    for n, (item, _, value, _) in enumerate(ITEMS):
        hospital.patient(n, charted=False)
        hospital.chart(n, item, "2150-06-10 01:00:00", value)
    rows = cohort_of(hospital, tmp_path).sites["micu"].set_index("patient_id")
    for n, (item, vital, value, kept) in enumerate(ITEMS):
        found = rows[vital].get(str(n))
        assert (None if found is None else float(found)) == (
            None if kept is None else pytest.approx(kept, abs=1e-4)
        ), (item, value)


def test_texts_and_empty_values_are_no_numbers(tmp_path: Path) -> None:
    hospital = Hospital()
    hospital.patient(1)
    hospital.chart(1, 220045, "2150-06-10 01:00:00", "")
    hospital.chart(1, 220045, "2150-06-10 02:00:00", "None")
    hospital.rows["icu/icustays"][0] = [*hospital.rows["icu/icustays"][0][:6], "None", "None"]
    cohort = cohort_of(hospital, tmp_path)
    # MIMIC-IV flags no errors.
    assert cohort.dropped == {
        "duplicate": 0,
        "no number": 2,
        "impossible value": 0,
        "outside every kept stay": 0,
    }


def test_versions_2_and_3_give_the_same_cohort(tmp_path: Path) -> None:
    hospital = Hospital()
    hospital.patient(1)
    later = mimic4_cohort(hospital.write(tmp_path / "v3"), Mimic4Settings(sepsis="none"))
    absent = ["caregiver_id", "anchor_year_group", "race"]
    earlier = mimic4_cohort(hospital.write(tmp_path / "v2", absent), Mimic4Settings(sepsis="none"))
    pd.testing.assert_frame_equal(later.sites["micu"], earlier.sites["micu"])
    assert len(later.sites["micu"]) == 24
