"""The cohort of MIMIC-IV's demo against slow code of its own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from common.data.cohort_writer import Cohort
from common.data.vitals import VITAL_NAMES
from common.errors import SourceError
from simulation.cohorts.mimic.code_rules import require_icd9
from simulation.cohorts.mimic4.care_units import SITE_OF_UNIT
from simulation.cohorts.mimic4.cohort import Mimic4Settings, mimic4_cohort
from simulation.cohorts.mimic4.schema import mimic4_tables

# Of MIT-LCP/mimic-code, mimic-iv/concepts/measurement/vitalsign.sql, and 225309 and 225310.
ITEMS = {
    "heart_rate": ([220045], 0, 300),
    "sbp": ([220179, 220050, 225309], 0, 400),
    "dbp": ([220180, 220051, 225310], 0, 300),
    "mbp": ([220181, 220052, 225312], 0, 300),
    "resp_rate": ([220210, 224690], 0, 70),
    "spo2": ([220277], 0, 100.000001),
}
KEYS = ["patient_id", "stay_id", "step"]


@pytest.fixture(scope="module")
def demo(shared_data: Path) -> Path:
    folder = shared_data / "mimic4-demo"
    if not folder.is_dir():
        pytest.skip(f"MIMIC-IV's demo is not present at {folder}")
    return folder


@pytest.fixture(scope="module")
def everyone(demo: Path) -> Cohort:
    return mimic4_cohort(demo, Mimic4Settings(sepsis="none", min_hours=0))


def possible_values(demo: Path) -> pd.DataFrame:
    """Charted values that are possible, in the site table's units: one row a value."""
    columns = ["subject_id", "itemid", "charttime", "valuenum"]
    rows = pd.read_csv(demo / "icu/chartevents.csv.gz", usecols=columns, parse_dates=["charttime"])
    rows = rows.drop_duplicates(["subject_id", "itemid", "charttime", "valuenum"])
    kept = []
    for vital, (items, low, high) in ITEMS.items():
        values = rows[rows["itemid"].isin(items)].assign(vital=vital)
        kept.append(values[(values["valuenum"] > low) & (values["valuenum"] < high)])
    fahrenheit = rows[(rows["itemid"] == 223761) & (rows["valuenum"] > 70)]
    fahrenheit = fahrenheit[fahrenheit["valuenum"] < 120]
    kept.append(fahrenheit.assign(valuenum=(fahrenheit["valuenum"] - 32) / 1.8))
    celsius = rows[(rows["itemid"] == 223762) & (rows["valuenum"] > 10)]
    kept.append(celsius[celsius["valuenum"] < 50])
    return pd.concat(kept).fillna({"vital": "temperature_c"})


def test_hourly_means_are_those_of_a_slow_reference(demo: Path, everyone: Cohort) -> None:
    values = possible_values(demo)
    stays = pd.read_csv(demo / "icu/icustays.csv.gz", parse_dates=["intime", "outtime"])
    stays = stays.sort_values(["subject_id", "intime"])
    first = stays.groupby("subject_id")["first_careunit"].transform("first")
    stays = stays[stays["first_careunit"] == first]
    rows = values.merge(stays, on="subject_id")
    rows = rows[rows["charttime"].between(rows["intime"], rows["outtime"])]
    rows = rows.assign(
        site=rows["first_careunit"].map(SITE_OF_UNIT),
        patient_id=rows["subject_id"].astype(str),
        stay_id=rows["stay_id"].astype(str),
        step=((rows["charttime"] - rows["intime"]).dt.total_seconds() // 3600).astype("int32"),
    )
    by_time = rows.groupby(["site", *KEYS, "charttime", "vital"], as_index=False)["valuenum"].mean()
    theirs = by_time.pivot_table("valuenum", ["site", *KEYS], "vital", "mean")
    theirs = theirs.sort_index()[list(VITAL_NAMES)]
    ours = pd.concat(rows.assign(site=site) for site, rows in everyone.sites.items())
    ours = ours.set_index(["site", *KEYS]).sort_index()[list(VITAL_NAMES)]
    assert ours.index.equals(theirs.index)
    np.testing.assert_allclose(ours.to_numpy(), theirs.to_numpy(), rtol=1e-5)


def test_ages_are_those_of_the_anchors(demo: Path, everyone: Cohort) -> None:
    assert everyone.stays is not None
    found = everyone.stays.set_index("stay_id")["age"]
    patients = pd.read_csv(demo / "hosp/patients.csv.gz")
    admissions = pd.read_csv(demo / "hosp/admissions.csv.gz")[["hadm_id", "admittime"]]
    stays = pd.read_csv(demo / "icu/icustays.csv.gz").merge(patients, on="subject_id")
    stays = stays.merge(admissions, on="hadm_id", how="left")
    years = stays["admittime"].fillna(stays["intime"]).str[:4].astype(int)
    stays["age"] = stays["anchor_age"] + years - stays["anchor_year"]
    expected = stays.set_index(stays["stay_id"].astype(str))["age"]
    assert found.to_dict() == expected[found.index].to_dict()


def test_explicit_counts_the_codes_of_both_versions(demo: Path) -> None:
    codes = pd.read_csv(demo / "hosp/diagnoses_icd.csv.gz", dtype={"icd_code": str})
    of_9 = codes[(codes["icd_version"] == 9) & codes["icd_code"].isin(["99592", "78552"])]
    of_10 = codes[(codes["icd_version"] == 10) & codes["icd_code"].isin(["R6520", "R6521"])]
    stays = pd.read_csv(demo / "icu/icustays.csv.gz")
    per_version = [stays["hadm_id"].isin(part["hadm_id"]).sum() for part in (of_9, of_10)]
    assert per_version == [10, 10]
    flow = mimic4_cohort(demo, Mimic4Settings(sepsis="explicit", min_hours=0)).flow
    counts = {step.label: step.total for step in flow.steps}
    assert counts["ICU stays in the source"] == len(stays) == 140
    assert counts["sepsis by the rule explicit"] == sum(per_version)


def test_the_demo_has_admissions_of_icd10(demo: Path) -> None:
    with mimic4_tables(demo) as tables:
        stays = tables.load("ICUSTAYS", "the test")
        with pytest.raises(SourceError, match="of the 126 admissions have ICD-10 diagnoses"):
            require_icd9(tables, "angus", stays)
