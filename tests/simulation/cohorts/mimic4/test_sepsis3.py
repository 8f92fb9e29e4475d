"""Sepsis-3 of MIMIC-IV's tables: suspected infection, windows of SOFA, and what is absent."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import SourceError
from simulation.cohorts.mimic.suspected_infection import suspected_infections
from simulation.cohorts.mimic4.cohort import Mimic4Settings, mimic4_cohort
from simulation.cohorts.mimic4.schema import mimic4_tables
from simulation.cohorts.mimic4.sepsis3_records import SEPSIS3_TABLES, mimic4_infection_records
from tests.simulation.cohorts.mimic4.tables import HEADERS, SEPSIS3_HEADERS, START, Hospital

ALL_HEADERS = HEADERS | SEPSIS3_HEADERS
SEPSIS3 = Mimic4Settings(sepsis="sepsis3", min_hours=0)
PLATELETS = 51265
INTIME = datetime.fromisoformat(START)  # the stays of the tests last 47.5 hours
STAY_H = 47.5


def at(hours: float) -> datetime:
    return INTIME + timedelta(hours=hours)


def infections(hospital: Hospital, folder: Path) -> list[tuple[int, datetime]]:
    """Patient and time of the suspected infections."""
    with mimic4_tables(hospital.write(folder, headers=ALL_HEADERS)) as tables:
        stays = tables.load("ICUSTAYS", "the test")
        subjects = range(1000)
        records = mimic4_infection_records(tables, stays, subjects)
        found = suspected_infections(tables.connection, records, stays)
        return tables.connection.execute(
            f"SELECT subject_id, infection_time FROM {found} ORDER BY ALL"
        ).fetchall()


def septic(hospital: Hospital, folder: Path) -> list[int]:
    """The patients that the rule keeps."""
    cohort = mimic4_cohort(hospital.write(folder, headers=ALL_HEADERS), SEPSIS3)
    return sorted({int(n) for rows in cohort.sites.values() for n in rows["patient_id"]})


# --- suspected infection --------------------------------------------------------------------------


def test_the_onset_is_the_earlier_of_culture_and_antibiotic(tmp_path: Path) -> None:
    hospital = Hospital()
    # Hours from the culture, at hour 5, to the antibiotic; hour of the onset.
    cases = {-24.1: None, -24: -19, -1: 4, 0: 5, 1: 5, 72: 5, 72.1: None}
    for n, hours in enumerate(cases, start=1):
        hospital.patient(n, charted=False)
        hospital.culture(n, at(5).date(), at(5))
        hospital.prescribe(n, at(5 + hours))
    expected = [
        (n, at(onset)) for n, onset in enumerate(cases.values(), start=1) if onset is not None
    ]
    assert infections(hospital, tmp_path) == expected


def test_a_culture_without_a_time_may_be_of_any_hour_of_its_day(tmp_path: Path) -> None:
    hospital = Hospital()
    midnight = datetime.fromisoformat("2150-06-11 00:00:00")
    cases = {-24.5: False, -24: True, 0: True, 12: True, 96: True, 96.5: False}
    for n, hours in enumerate(cases, start=1):
        hospital.patient(n, charted=False)
        hospital.culture(n, midnight, "")
        hospital.prescribe(n, midnight + timedelta(hours=hours))
    assert infections(hospital, tmp_path) == [
        (n, min(midnight, midnight + timedelta(hours=hours)))
        for n, (hours, found) in enumerate(cases.items(), start=1)
        if found
    ]


def test_a_culture_without_an_admission_belongs_to_that_of_the_antibiotic(tmp_path: Path) -> None:
    hospital = Hospital()
    for n in (1, 2, 3):
        hospital.patient(n, charted=False)
        hospital.prescribe(n, at(0))
    hospital.culture(1, at(-9).date(), at(-9), admission="")
    # Of another admission of the patient, and of another patient.
    hospital.culture(2, at(-9).date(), at(-9), admission=77)
    hospital.culture(4, at(-9).date(), at(-9), admission="")
    assert infections(hospital, tmp_path) == [(1, at(-9))]


def test_which_prescriptions_count(tmp_path: Path) -> None:
    hospital = Hospital()
    cases = [
        *[("CefTRIAXone", "IV", True), ("Vancomycin", "", True), ("Ofloxacin", "LEFT EAR", False)],
        *[("Vancomycin Ophth Oint", "OU", False), ("Heparin", "IV", False)],
    ]
    for n, (drug, route, _) in enumerate(cases, start=1):
        hospital.patient(n, charted=False)
        hospital.culture(n, at(1).date(), at(1))
        hospital.prescribe(n, at(1), drug, route)
    hospital.patient(9, charted=False)
    hospital.culture(9, at(1).date(), at(1))
    hospital.prescribe(9, "")
    expected = [(n, at(1)) for n, (*_, counts) in enumerate(cases, start=1) if counts]
    assert infections(hospital, tmp_path) == expected


# --- Sepsis-3 -------------------------------------------------------------------------------------


def test_sofa_from_48_hours_before_to_24_hours_after_the_onset(tmp_path: Path) -> None:
    hospital = Hospital()
    # Hours of antibiotic and culture; hour and count of the platelets; septic.
    cases = [
        (20, 22, 21, 90, True),  # 2 points
        (20, 22, 21, 120, False),  # 1 point
        (None, 22, 21, 10, False),
        (20, None, 21, 10, False),
        (20, 22, -28, 90, True),  # 48 h before the antibiotic, which is the earlier
        (20, 22, -28.01, 90, False),
        (20, 22, 44, 90, True),  # 24 h after
        (20, 22, 44.01, 90, False),
        (22, 20, -28, 90, True),  # the culture is the earlier
        (22, 20, 44.01, 90, False),
        # The window of SOFA ends as the stay begins, and before; begins as it ends, and after.
        (-24, -23, -24, 10, True),
        (-24.01, -23, -24, 10, False),
        (STAY_H + 48, STAY_H + 50, STAY_H + 48, 10, True),
        (STAY_H + 48.01, STAY_H + 50, STAY_H + 48, 10, False),
    ]
    for n, (antibiotic, culture, hour, count, _) in enumerate(cases, start=1):
        hospital.patient(n)
        if antibiotic is not None:
            hospital.prescribe(n, at(antibiotic))
        if culture is not None:
            hospital.culture(n, at(culture).date(), at(culture))
        hospital.laboratory(n, PLATELETS, at(hour), count)
    assert septic(hospital, tmp_path) == [n for n, case in enumerate(cases, start=1) if case[-1]]


def test_the_flow_and_table_1_have_the_rule(tmp_path: Path) -> None:
    hospital = Hospital()
    for n in (1, 2, 3):
        hospital.patient(n, age=15 if n == 3 else 50)
        hospital.prescribe(n, at(2))
        hospital.culture(n, at(1).date(), at(1))
        hospital.laboratory(n, PLATELETS, at(3), 10 if n > 1 else 300)
    cohort = mimic4_cohort(hospital.write(tmp_path, headers=ALL_HEADERS), SEPSIS3)
    counts = {step.label: step.total for step in cohort.flow.steps}
    assert counts["adults (18 years or older)"] == 2
    assert counts["sepsis by the rule sepsis3"] == 1
    assert cohort.sepsis == "rule sepsis3"
    assert "sepsis=sepsis3" in cohort.rule
    assert cohort.stays is not None
    assert cohort.stays["stay_id"].tolist() == ["102"]
    assert cohort.sites["micu"]["heart_rate"].notna().sum() == 24
    assert {"PRESCRIPTIONS", "LABEVENTS", "INPUTEVENTS"} <= cohort.inputs.keys()


def test_no_suspected_infection_leaves_no_stay(tmp_path: Path) -> None:
    hospital = Hospital()
    hospital.patient(1)
    assert septic(hospital, tmp_path) == []


def test_versions_2_and_3_and_parquet_give_the_same_stays(tmp_path: Path) -> None:
    hospital = Hospital()
    hospital.patient(1)
    hospital.prescribe(1, at(2))
    hospital.culture(1, at(1).date(), at(1))
    hospital.laboratory(1, PLATELETS, at(3), 90)
    absent = ["caregiver_id", "order_provider_id"]
    earlier = hospital.write(tmp_path / "v2", absent, ALL_HEADERS)
    later = hospital.write(tmp_path / "v3", headers=ALL_HEADERS)
    for path in (later / "hosp").glob("[lmp]*s.csv.gz"):
        table = pd.read_csv(path, parse_dates=[])
        table.to_parquet(path.with_name(path.name.replace(".csv.gz", ".parquet")))
        path.unlink()
    first, second = (mimic4_cohort(folder, SEPSIS3) for folder in (earlier, later))
    pd.testing.assert_frame_equal(first.sites["micu"], second.sites["micu"])


# --- against a slow reference ---------------------------------------------------------------------


@dataclass
class Case:
    """Hours of antibiotics, of cultures (and whether their time is known), of platelet counts."""

    antibiotics: list[int]
    cultures: list[tuple[int, bool]]
    counts: list[tuple[int, int]]


def is_septic(case: Case) -> bool:
    """The rule in the plainest words."""
    for antibiotic in case.antibiotics:
        for culture, timed in case.cultures:
            taken = at(culture)
            latest = taken
            if not timed:
                taken = taken.replace(hour=0, minute=0)
                latest = taken + timedelta(days=1)
            given_at = at(antibiotic)
            if not taken - timedelta(hours=24) <= given_at <= latest + timedelta(hours=72):
                continue
            onset = min(taken, given_at)
            start, end = onset - timedelta(hours=48), onset + timedelta(hours=24)
            if end < at(0) or start > at(STAY_H):
                continue
            worst = min(
                (count for hour, count in case.counts if start <= at(hour) <= end), default=300
            )
            if worst < 100:  # 2 points of SOFA
                return True
    return False


def random_case(random: np.random.Generator) -> Case:
    """An antibiotic or two within weeks of the stay, with cultures and counts not far from it."""
    first = int(random.integers(-90, 130))

    def hours(earliest: int, latest: int, most: int) -> list[int]:
        count = random.integers(0, most + 1)
        return [first + int(hour) for hour in random.integers(earliest, latest, count)]

    return Case(
        antibiotics=[first, *hours(-60, 60, 1)],
        cultures=[(hour, bool(random.integers(2))) for hour in hours(-110, 40, 2)],
        counts=[(hour, int(random.choice([50, 99, 100]))) for hour in hours(-120, 60, 4)],
    )


@settings(max_examples=3, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10_000))
def test_sepsis3_is_that_of_a_slow_reference(seed: int) -> None:
    random = np.random.default_rng(seed)
    group = [random_case(random) for _ in range(120)]
    hospital = Hospital()
    for n, case in enumerate(group, start=1):
        hospital.patient(n, charted=False)
        hospital.chart(n, 220045, str(at(1)), 80)
        for hour in case.antibiotics:
            hospital.prescribe(n, at(hour))
        for hour, timed in case.cultures:
            hospital.culture(n, f"{at(hour).date()} 00:00:00", at(hour) if timed else "")
        for sample, (hour, count) in enumerate(case.counts):
            hospital.laboratory(n, PLATELETS, at(hour), count, sample)
    with TemporaryDirectory() as folder:
        found = septic(hospital, Path(folder))
    assert found == [n for n, case in enumerate(group, start=1) if is_septic(case)]
    assert 15 < len(found) < 105


# --- what is absent -------------------------------------------------------------------------------


@pytest.mark.parametrize("table", SEPSIS3_TABLES[1:])
def test_an_absent_table_is_refused_in_one_line(tmp_path: Path, table: str) -> None:
    hospital = Hospital()
    folder = hospital.write(tmp_path, headers=ALL_HEADERS)
    (path,) = folder.glob(f"*/{table.lower()}.csv.gz")
    path.unlink()
    with pytest.raises(SourceError, match=rf"\b{table}\b") as refused:
        mimic4_cohort(folder, SEPSIS3)
    assert "\n" not in str(refused.value)


def test_all_absent_tables_and_columns_are_named_at_once_with_what_to_do(tmp_path: Path) -> None:
    hospital = Hospital()
    headers = {
        name: header
        for name, header in ALL_HEADERS.items()
        if name not in ("icu/inputevents", "hosp/microbiologyevents")
    }
    folder = hospital.write(tmp_path, ["drug_type", "route"], headers)
    with pytest.raises(SourceError, match="sepsis3 needs") as refused:
        mimic4_cohort(folder, SEPSIS3)
    message = str(refused.value)
    assert "MICROBIOLOGYEVENTS, INPUTEVENTS absent" in message
    assert "lacks the column DRUG_TYPE, ROUTE" in message
    assert "choose --sepsis explicit or none" in message
    assert "\n" not in message
    # The other rules do not need them.
    assert mimic4_cohort(folder, Mimic4Settings(sepsis="explicit", min_hours=0)).sites == {}
