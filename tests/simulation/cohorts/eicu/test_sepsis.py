from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from simulation.cohorts.eicu.schema import eicu_tables
from simulation.cohorts.eicu.sepsis import septic_unit_stays
from tests.simulation.cohorts.eicu.eicu_folder import write_eicu

CIRCULATION = "cardiovascular|shock / hypotension"
INFECTION = "infectious diseases|systemic/other infections"


def septic(folder: Path, rule: str) -> bool:
    with eicu_tables(folder) as tables:
        return bool(septic_unit_stays(tables, rule))


@pytest.mark.parametrize(
    ("diagnosis", "expected"),
    [
        ("Sepsis, pulmonary", True),
        ("Sepsis, renal/UTI (including bladder)", True),
        ("Pneumonia, bacterial", False),
        ("Arthritis, septic", False),
        ("", False),
    ],
)
def test_the_admission_diagnosis(tmp_path: Path, diagnosis: str, expected: bool) -> None:
    write_eicu(tmp_path, [{"apacheadmissiondx": diagnosis}])
    assert septic(tmp_path, "apache") is expected


@pytest.mark.parametrize(
    ("codes", "expected"),
    [
        ("995.92, R65.2", True),
        ("785.52,R65.21", True),
        ("038.9, 584.9, R65.20, N17", True),
        ("995.91, A41.9", False),
        ("785.59", False),
        ("1995.92", False),
        ("", False),
    ],
)
def test_codes_of_both_versions_in_one_field(tmp_path: Path, codes: str, expected: bool) -> None:
    write_eicu(tmp_path, diagnoses=[{"icd9code": codes}])
    assert septic(tmp_path, "icd9") is expected


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (f"{CIRCULATION}|sepsis", True),
        (f"{CIRCULATION}|septic shock|cultures pending", True),
        (f"{INFECTION}|sepsis|severe", True),
        (f"{INFECTION}|septic shock", True),
        (f"{INFECTION}|signs and symptoms of sepsis (SIRS)", False),
        ("infectious diseases|skin, bone and joint infections|septic arthritis", False),
        ("renal|disorder of kidney|acute renal failure|due to sepsis", False),
    ],
)
def test_paths_of_the_list_of_diagnoses(tmp_path: Path, path: str, expected: bool) -> None:
    write_eicu(tmp_path, diagnoses=[{"diagnosisstring": path}])
    assert septic(tmp_path, "diagnosis") is expected


@pytest.mark.parametrize(("rule", "stays", "of_apache"), [("icd9", 170, 128), ("apache", 288, 288)])
def test_counts_of_the_demo(shared_data: Path, rule: str, stays: int, of_apache: int) -> None:
    with eicu_tables(shared_data / "eicu-demo") as tables:
        found = septic_unit_stays(tables, rule)
        apache = septic_unit_stays(tables, "apache")
    assert (len(found), len(found & apache)) == (stays, of_apache)


def test_the_list_of_diagnoses_of_the_demo(shared_data: Path) -> None:
    rows = pd.read_csv(shared_data / "eicu-demo" / "diagnosis.csv.gz")
    level = rows["diagnosisstring"].str.split("|").str[:3].str.join("|")
    paths = [
        f"{area}|{name}" for area in (CIRCULATION, INFECTION) for name in ("sepsis", "septic shock")
    ]
    with eicu_tables(shared_data / "eicu-demo") as tables:
        found = septic_unit_stays(tables, "diagnosis")
    assert found == frozenset(rows.loc[level.isin(paths), "patientunitstayid"])
