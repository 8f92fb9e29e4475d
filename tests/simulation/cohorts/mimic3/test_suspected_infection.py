from __future__ import annotations

import csv
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path

import pandas as pd
import pytest

from common.errors import SourceError
from simulation.cohorts.mimic.suspected_infection import (
    ANTIBIOTIC_NAMES,
    first_suspected_infection,
    suspected_infections,
)
from simulation.cohorts.mimic3.schema import mimic3_tables
from simulation.cohorts.mimic3.sepsis3_records import mimic3_infection_records

ORDERED = datetime.fromisoformat("2150-06-10 00:00:00")  # prescriptions have dates only
SECOND = 1 / 3600

HEADERS = {
    "ICUSTAYS": "SUBJECT_ID,HADM_ID,ICUSTAY_ID,DBSOURCE,FIRST_CAREUNIT,INTIME,OUTTIME",
    "PRESCRIPTIONS": "SUBJECT_ID,HADM_ID,ICUSTAY_ID,STARTDATE,ENDDATE,DRUG_TYPE,DRUG,ROUTE",
    "MICROBIOLOGYEVENTS": "SUBJECT_ID,HADM_ID,CHARTDATE,CHARTTIME,SPEC_TYPE_DESC,ORG_NAME",
}


def at(hours: float) -> datetime:
    return ORDERED + timedelta(hours=hours)


def write_tables(
    folder: Path,
    prescriptions: Sequence[tuple[int, datetime | str, str, str, str]],
    cultures: Sequence[tuple[int, datetime | str, datetime | str]],
) -> None:
    """Write one ICU stay an admission.

    Args:
        folder: where to.
        prescriptions: admission, start date, drug type, drug, route.
        cultures: admission, chart date, chart time.
    """
    admissions = sorted({row[0] for row in prescriptions} | {row[0] for row in cultures})
    rows: dict[str, list[tuple[object, ...]]] = {
        "ICUSTAYS": [
            (1, admission, 1000 + admission, "metavision", "MICU", at(-5), at(100))
            for admission in admissions
        ],
        "PRESCRIPTIONS": [
            (1, admission, "", start, "", kind, drug, route)
            for admission, start, kind, drug, route in prescriptions
        ],
        "MICROBIOLOGYEVENTS": [
            (1, admission, date, time, "BLOOD CULTURE", "") for admission, date, time in cultures
        ],
    }
    for table, header in HEADERS.items():
        with (folder / f"{table}.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(header.split(","))
            writer.writerows(rows[table])


def first_infections(folder: Path) -> dict[int, datetime]:
    """The first suspected infection by admission."""
    with mimic3_tables(folder) as tables:
        stays = tables.load("ICUSTAYS", "the test")
        table = first_suspected_infection(
            tables.connection, mimic3_infection_records(tables), stays
        )
        rows = tables.connection.execute(f"SELECT stay_id, infection_time FROM {table}")
        return {stay_id - 1000: time for stay_id, time in rows.fetchall()}


def test_culture_from_72_hours_before_to_24_hours_after_the_antibiotic(tmp_path: Path) -> None:
    inside = [-72, -71.9, -24, -SECOND, 0, 3, 23.9, 24]
    outside = [-500, -72 - SECOND, 24 + SECOND, 48, 500]
    hours = dict(enumerate((*inside, *outside), start=1))
    write_tables(
        tmp_path,
        [(admission, ORDERED, "MAIN", "Vancomycin", "IV") for admission in hours],
        [(admission, at(hour).date().isoformat(), at(hour)) for admission, hour in hours.items()],
    )
    expected = {admission: at(hour) for admission, hour in hours.items() if hour in inside}
    assert first_infections(tmp_path) == expected


def test_a_culture_without_a_time_may_be_of_any_hour_of_its_day(tmp_path: Path) -> None:
    days = {1: -5, 2: -4, 3: -1, 4: 0, 5: 1, 6: 2}
    write_tables(
        tmp_path,
        [(admission, ORDERED, "MAIN", "Vancomycin", "IV") for admission in days],
        [(admission, at(24 * day), "") for admission, day in days.items()],
    )
    expected = {admission: at(24 * days[admission]) for admission in (2, 3, 4, 5)}
    assert first_infections(tmp_path) == expected


@pytest.mark.parametrize(
    ("kind", "drug", "route", "systemic"),
    [
        ("MAIN", "Piperacillin-Tazobactam Na", "IV", True),
        ("MAIN", "VANCOMYCIN HCL", "IV DRIP", True),
        ("MAIN", "CeftriaXONE", "IV", True),
        ("MAIN", "Meropenem", "IV", True),
        ("ADDITIVE", "Cefepime", "IV", True),
        ("MAIN", "Ciprofloxacin HCl", "PO", True),
        ("MAIN", "Ciprofloxacin HCl", "", True),
        ("BASE", "Vancomycin", "IV", False),
        ("MAIN", "Ciprofloxacin 0.3% Ophth Soln", "OU", False),
        ("MAIN", "Ciprofloxacin 0.3% Ophth Soln", "BOTH EYES", False),
        ("MAIN", "Ofloxacin", "LEFT EAR", False),
        ("MAIN", "Erythromycin 0.5% Ophth Oint", "PO", False),
        ("MAIN", "Metronidazole Gel 0.75%", "PO", False),
        ("MAIN", "Penicillin Desensitization", "IV", False),
        ("MAIN", "Heparin", "IV", False),
    ],
)
def test_which_prescriptions_are_systemic_antibiotics(
    tmp_path: Path, kind: str, drug: str, route: str, systemic: bool
) -> None:
    write_tables(tmp_path, [(1, ORDERED, kind, drug, route)], [(1, ORDERED, at(2))])
    assert first_infections(tmp_path) == ({1: at(2)} if systemic else {})


def test_an_infection_needs_both_in_one_admission(tmp_path: Path) -> None:
    write_tables(
        tmp_path,
        [(1, ORDERED, "MAIN", "Vancomycin", "IV"), (3, "", "MAIN", "Vancomycin", "IV")],
        [(2, ORDERED, at(2)), (3, ORDERED, at(2))],
    )
    assert first_infections(tmp_path) == {}


def test_all_infections_of_an_admission_are_found_once_each(tmp_path: Path) -> None:
    drugs = ("Vancomycin", "Cefepime")
    days = (0, 240, 480)
    write_tables(
        tmp_path,
        [(1, at(hour), "MAIN", drug, "IV") for hour in days for drug in drugs],
        [(1, at(hour), at(hour + 5)) for hour in (0, 0, 240, 360)],
    )
    with mimic3_tables(tmp_path) as tables:
        stays = tables.load("ICUSTAYS", "the test")
        table = suspected_infections(tables.connection, mimic3_infection_records(tables), stays)
        rows = tables.connection.execute(f"SELECT * FROM {table} ORDER BY ALL").fetchall()
    assert rows == [(1, 1, 1001, at(5)), (1, 1, 1001, at(245))]
    assert first_infections(tmp_path) == {1: at(5)}


def test_names_are_lower_case_and_listed_once() -> None:
    assert list(ANTIBIOTIC_NAMES) == [name.lower() for name in ANTIBIOTIC_NAMES]
    assert len(ANTIBIOTIC_NAMES) == len(set(ANTIBIOTIC_NAMES))


@pytest.mark.parametrize("table", ["PRESCRIPTIONS", "MICROBIOLOGYEVENTS"])
def test_an_absent_table_is_named(tmp_path: Path, table: str) -> None:
    write_tables(tmp_path, [(1, ORDERED, "MAIN", "Vancomycin", "IV")], [(1, ORDERED, at(2))])
    (tmp_path / f"{table}.csv").unlink()
    with pytest.raises(SourceError, match=rf"\b{table}\b.*suspected infection"):
        first_infections(tmp_path)


def test_first_suspected_infection_equals_the_labels(shared_data: Path) -> None:
    # One stay differs: its first antibiotic is ceftriaxone, which the list behind the labels lacks.
    # Two more of its ways could differ on other data: a drug that is given by mouth or vein to
    # anybody counts also where it goes into an eye, and prescriptions without a route are left out.
    labels = pd.read_csv(
        shared_data / "mimic3-demo-grafted-labels" / "labels.csv",
        parse_dates=["first_suspected_infection"],
    )
    with mimic3_tables(shared_data / "mimic3-demo-grafted") as tables:
        stays = tables.load("ICUSTAYS", "the test")
        found = tables.connection.table(
            first_suspected_infection(tables.connection, mimic3_infection_records(tables), stays)
        ).df()
    expected = labels.set_index("icustay_id")["first_suspected_infection"].dropna()
    times = found.set_index("stay_id")["infection_time"]
    assert len(expected) == 98
    ceftriaxone = {263095: (pd.Timestamp("2201-08-10 17:30"), pd.Timestamp("2201-08-13 04:19"))}
    both = pd.concat({"here": times, "labels": expected}, axis="columns")
    different = both[both["here"] != both["labels"]]
    assert dict(
        zip(different.index, different.itertuples(index=False, name=None), strict=True)
    ) == (ceftriaxone)
