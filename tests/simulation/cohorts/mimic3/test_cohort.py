from __future__ import annotations

import gzip
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from common.data.cohort_writer import write_cohort
from common.data.demographics import AGE_BANDS
from common.data.site_table import read_site_table
from common.data.vitals import VITALS
from common.errors import CohortError, SourceError, UsageError
from simulation.cohorts.mimic3.cohort import ADULT_UNITS, Mimic3Settings, mimic3_cohort


@pytest.fixture(scope="module")
def grafted(shared_data: Path) -> Path:
    return shared_data / "mimic3-demo-grafted"


def cohort_frame(folder: Path, **settings: Any) -> pd.DataFrame:
    cohort = mimic3_cohort(folder, Mimic3Settings(**settings))
    return pd.concat(
        [rows.assign(site=site) for site, rows in sorted(cohort.sites.items())], ignore_index=True
    )


@pytest.mark.parametrize(("rule", "stays"), [("explicit", 27), ("angus", 68), ("martin", 38)])
def test_the_flow_states_the_known_counts(grafted: Path, rule: str, stays: int) -> None:
    flow = mimic3_cohort(grafted, Mimic3Settings(sepsis=rule, min_hours=0)).flow
    counts = {step.label: step.total for step in flow.steps}
    assert counts["ICU stays in the source"] == 136
    # One stay is a minor's: the data's own label file counts it as well as the others.
    assert counts["adults (18 years or older)"] == 135
    assert counts[f"sepsis by the rule {rule}"] == stays


def test_a_patient_is_in_one_site(grafted: Path) -> None:
    frame = cohort_frame(grafted, sepsis="none")
    assert frame.groupby("patient_id")["site"].nunique().eq(1).all()
    assert set(frame["site"]) <= set(ADULT_UNITS)


def test_age_and_sex_are_those_of_the_patients_table(grafted: Path) -> None:
    found = mimic3_cohort(grafted, Mimic3Settings(sepsis="none")).patients
    assert found is not None
    given = pd.read_csv(grafted / "PATIENTS.csv.gz").set_index("SUBJECT_ID")
    stays = pd.read_csv(grafted / "ICUSTAYS.csv.gz").sort_values("INTIME")
    for patient, band, sex in found.itertuples(index=False):
        assert sex == {"F": "female", "M": "male"}[str(given.loc[int(patient), "GENDER"])]
        admitted = stays[stays["SUBJECT_ID"] == int(patient)]["INTIME"].iloc[0]
        born = str(given.loc[int(patient), "DOB"])
        age = int(admitted[:4]) - int(born[:4]) - (admitted[5:] < born[5:])
        assert band == [name for name, begins in AGE_BANDS.items() if age >= begins][-1]


@pytest.mark.parametrize("rule", ["none", "explicit"])
def test_table_1_is_that_of_the_tables_read_by_themselves(
    shared_data: Path, tmp_path: Path, rule: str
) -> None:
    folder = shared_data / "mimic3-demo"
    record = write_cohort(mimic3_cohort(folder, Mimic3Settings(sepsis=rule)), tmp_path / "cohort")
    stays = pd.read_csv(folder / "ICUSTAYS.csv.gz", parse_dates=["INTIME", "OUTTIME"])
    stays = stays.sort_values(["SUBJECT_ID", "INTIME"])
    patients = pd.read_csv(folder / "PATIENTS.csv.gz").set_index("SUBJECT_ID")
    died = pd.read_csv(folder / "ADMISSIONS.csv.gz").set_index("HADM_ID")["HOSPITAL_EXPIRE_FLAG"]
    codes = pd.read_csv(folder / "DIAGNOSES_ICD.csv.gz", dtype={"ICD9_CODE": str})
    septic = set(codes[codes["ICD9_CODE"].isin(["99592", "78552"])]["HADM_ID"])
    for site, group in record["characteristics"]["sites"].items():
        frame = read_site_table(tmp_path / "cohort" / "sites" / f"{site}.parquet").frame
        kept = stays[stays["ICUSTAY_ID"].astype(str).isin(set(frame["stay_id"]))]
        firsts = kept.drop_duplicates("SUBJECT_ID")
        sexes = patients.loc[firsts["SUBJECT_ID"], "GENDER"].value_counts()
        assert group["sex"] == {"female": sexes["F"], "male": sexes["M"], "unknown": 0}
        assert group["stays"] == len(kept)
        dead = set(kept[kept["HADM_ID"].map(died) == 1]["SUBJECT_ID"])
        assert group["died"] == {"yes": len(dead), "known": group["patients"]}
        assert group["unit"] == {site: len(kept)}
        coded = sum(admission in septic for admission in kept["HADM_ID"])
        assert group["septic"] == {"yes": coded, "known": len(kept)}
        days = (kept["OUTTIME"] - kept["INTIME"]).dt.total_seconds() / 86400
        assert group["icu_days"]["median"] == pytest.approx(days.median(), abs=1e-3)
        born = firsts["SUBJECT_ID"].map(patients["DOB"]).astype(str)
        years = [
            int(at[:4]) - int(birth[:4]) - (at[5:] < birth[5:])
            for at, birth in zip(firsts["INTIME"].astype(str), born, strict=True)
        ]
        assert group["over_89"] == sum(age > 89 for age in years)
        assert group["age"]["median"] == pd.Series(years).clip(upper=90).median()
    assert record["characteristics"]["sepsis"] == "rule explicit"


def test_table_1_needs_no_table_that_the_cohort_does_not_need(
    shared_data: Path, tmp_path: Path
) -> None:
    for name in ("ICUSTAYS", "PATIENTS", "CHARTEVENTS"):
        (file,) = (shared_data / "mimic3-demo").glob(f"{name}.csv*")
        shutil.copy(file, tmp_path)
    cohort = mimic3_cohort(tmp_path, Mimic3Settings(sepsis="none", units=("csru",)))
    assert cohort.stays is not None
    assert not {"died", "septic"} & set(cohort.stays)
    assert cohort.sepsis == ""


def test_every_value_is_in_range(grafted: Path) -> None:
    frame = cohort_frame(grafted, sepsis="none")
    for vital in VITALS:
        values = frame[vital.name].dropna().to_numpy()
        assert vital.valid(values).all()


def test_ages_of_shifted_births_do_not_overflow(grafted: Path, tmp_path: Path) -> None:
    folder = tmp_path / "mimic"
    shutil.copytree(grafted, folder)
    patients = pd.read_csv(folder / "PATIENTS.csv.gz")
    patients["DOB"] = "1800-01-01 00:00:00"  # up to 400 years before admission
    patients.to_csv(folder / "PATIENTS.csv.gz", index=False)
    flow = mimic3_cohort(folder, Mimic3Settings(sepsis="none")).flow
    assert flow.steps[2].total == 136


def test_era_and_units_narrow_the_cohort(grafted: Path) -> None:
    frame = cohort_frame(grafted, sepsis="none", era="metavision", units=("sicu", "micu"))
    assert set(frame["site"]) == {"sicu", "micu"}
    # MetaVision's stays have ids from 200,000 on, as CareVue's: only DBSOURCE differs.
    everything = cohort_frame(grafted, sepsis="none", units=("sicu", "micu"))
    assert 0 < frame["stay_id"].nunique() < everything["stay_id"].nunique()


def test_short_stays_are_left_out(grafted: Path) -> None:
    frame = cohort_frame(grafted, sepsis="none", min_hours=40)
    assert frame.groupby("stay_id")["step"].max().min() >= 39


def test_order_and_format_of_the_input_do_not_matter(grafted: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    for number, path in enumerate(sorted(grafted.glob("*.csv.gz"))):
        table = pd.read_csv(path, dtype=str).sample(frac=1, random_state=number)
        table.columns = [name.lower() for name in table.columns]
        name = path.name.removesuffix(".csv.gz")
        table.to_csv(other / f"{name}.csv", index=False)
    pd.testing.assert_frame_equal(
        cohort_frame(grafted, sepsis="angus"), cohort_frame(other, sepsis="angus")
    )


@pytest.mark.parametrize("table", ["ICUSTAYS", "PATIENTS", "CHARTEVENTS", "DIAGNOSES_ICD"])
def test_a_missing_table_is_named_before_anything_is_read(
    grafted: Path, tmp_path: Path, table: str
) -> None:
    folder = tmp_path / "mimic"
    shutil.copytree(grafted, folder)
    (folder / f"{table}.csv.gz").unlink()
    with pytest.raises(SourceError, match=table):
        mimic3_cohort(folder, Mimic3Settings())


def test_a_truncated_table_is_an_error_not_a_smaller_cohort(grafted: Path, tmp_path: Path) -> None:
    folder = tmp_path / "mimic"
    shutil.copytree(grafted, folder)
    for name in ("CHARTEVENTS.csv.gz", "DIAGNOSES_ICD.csv.gz"):
        whole = (grafted / name).read_bytes()
        (folder / name).write_bytes(whole[: len(whole) // 2])
        with pytest.raises(SourceError, match=name.replace(".", r"\.")):
            mimic3_cohort(folder, Mimic3Settings())
        (folder / name).write_bytes(whole)


def test_a_missing_column_is_named(grafted: Path, tmp_path: Path) -> None:
    folder = tmp_path / "mimic"
    shutil.copytree(grafted, folder)
    stays = pd.read_csv(grafted / "ICUSTAYS.csv.gz").drop(columns="INTIME")
    with gzip.open(folder / "ICUSTAYS.csv.gz", "wt") as file:
        stays.to_csv(file, index=False)
    with pytest.raises(SourceError, match=r"ICUSTAYS\.csv\.gz lacks the column INTIME"):
        mimic3_cohort(folder, Mimic3Settings())


def test_a_cohort_without_patients_is_refused(grafted: Path, tmp_path: Path) -> None:
    cohort = mimic3_cohort(grafted, Mimic3Settings(min_hours=10_000))
    with pytest.raises(CohortError, match="no stay is left after the rule 'at least 10000 h"):
        write_cohort(cohort, tmp_path / "out")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sepsis": "sepsis4"}, "--sepsis 'sepsis4' is not known"),
        ({"era": "carevue"}, "--era 'carevue' is not known"),
        ({"units": ("micu", "nicu")}, "--units 'nicu' is not known"),
        ({"units": ()}, "--units is empty"),
        ({"step_minutes": 0}, "--step-minutes must be at least 1, got 0"),
        ({"min_hours": -1}, "--min-hours must not be negative"),
    ],
)
def test_settings_that_mean_nothing_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Mimic3Settings(**settings)
