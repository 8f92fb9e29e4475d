from __future__ import annotations

import gzip
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from common.console import run
from common.data.cohort_writer import Cohort, write_cohort
from common.data.splits import split_of
from common.data.vitals import VITAL_NAMES
from common.errors import SourceError, UsageError
from simulation.cli import app
from simulation.cohorts.eicu.cohort import EicuSettings, eicu_cohort
from tests.simulation.cohorts.eicu.eicu_folder import (
    Row,
    hours_of_monitor,
    slow_means,
    write_eicu,
)

DEMO = "eicu-demo"


def stays_of(cohort: Cohort) -> dict[str, list[str]]:
    return {site: sorted(rows["stay_id"].unique()) for site, rows in cohort.sites.items()}


def prepared(folder: Path, patients: Sequence[Row], **settings: object) -> Cohort:
    rows = [row for number in range(1, len(patients) + 1) for row in hours_of_monitor(number, 14)]
    numbered = [{"patientunitstayid": n, **row} for n, row in enumerate(patients, 1)]
    write_eicu(folder, numbered, rows)
    chosen = EicuSettings(**{"sepsis": "none", **settings})  # type: ignore[arg-type]
    return eicu_cohort(folder, chosen)


def test_a_person_stays_in_the_site_of_the_first_stay(tmp_path: Path) -> None:
    cohort = prepared(
        tmp_path,
        [
            {"uniquepid": "a", "hospitalid": 2, "hospitaldischargeyear": 2015},
            {"uniquepid": "a", "hospitalid": 1, "unitvisitnumber": 2},
            {"uniquepid": "a", "hospitalid": 1, "unitvisitnumber": 1},
            {"uniquepid": "b", "hospitalid": 2},
        ],
    )
    assert stays_of(cohort) == {"hospital-1": ["2", "3"], "hospital-2": ["4"]}
    last = cohort.flow.steps[-1]
    assert (last.label, last.total, last.patients) == ("in the patient's first kept site", 3, 2)
    assert set(cohort.sites["hospital-1"]["patient_id"]) == {"a"}


def test_the_youngest_stay_of_a_year_is_the_first(tmp_path: Path) -> None:
    ages = [{"uniquepid": "a", "hospitalid": n, "age": age} for n, age in enumerate(("61", "60"))]
    assert stays_of(prepared(tmp_path, ages)) == {"hospital-1": ["2"]}


def test_ages_are_read_as_eicu_writes_them(tmp_path: Path) -> None:
    ages = ["> 89", "17", "18", ""]
    people = [{"uniquepid": str(n), "age": age} for n, age in enumerate(ages)]
    cohort = prepared(tmp_path, people)
    assert cohort.stays is not None
    assert cohort.stays["age"].tolist() == [90, 18]
    assert cohort.flow.steps[1].total == 2


def test_facts_of_the_stays(tmp_path: Path) -> None:
    cohort = prepared(
        tmp_path,
        [
            {"uniquepid": "a", "hospitaldischargestatus": "Expired", "gender": "Male"},
            {"uniquepid": "b", "hospitaldischargestatus": "", "gender": ""},
            {"uniquepid": "c", "apacheadmissiondx": "Sepsis, GI", "unitdischargeoffset": 2880},
        ],
    )
    assert cohort.stays is not None
    facts = cohort.stays
    assert facts["died"].tolist() == [True, pd.NA, False]
    assert facts["sex"].tolist() == ["male", "", "female"]
    assert facts["septic"].tolist() == [False, False, True]
    assert facts["icu_days"].tolist() == [1, 1, 2]
    assert facts["unit"].unique().tolist() == ["med-surg-icu"]
    assert cohort.sepsis == "rule apache"


def test_small_hospitals_and_short_stays_are_left_out_by_rule(tmp_path: Path) -> None:
    people = [{"uniquepid": str(n), "hospitalid": 1 + n // 3} for n in range(5)]
    people.append({"uniquepid": "9", "hospitalid": 2, "unitdischargeoffset": 600})
    cohort = prepared(tmp_path, people, min_stays=3)
    assert list(cohort.sites) == ["hospital-1"]
    labels = [step.label for step in cohort.flow.steps]
    assert labels[-1] == "in a hospital with at least 3 such stays"
    assert [step.total for step in cohort.flow.steps] == [6, 6, 5, 5, 3]
    assert "hospitals of 3 stays or more" in cohort.rule


def test_a_stay_of_thousands_of_years_is_left_out_and_counted(tmp_path: Path) -> None:
    people = [{"uniquepid": str(n), "unitdischargeoffset": 2_000_000_000} for n in range(2)]
    measured = [*hours_of_monitor(1, 14), *hours_of_monitor(2, 14)]
    last = {"patientunitstayid": 2, "observationoffset": 1_999_999_999, "heartrate": 80}
    for number, person in enumerate(people, 1):
        person["patientunitstayid"] = number
    write_eicu(tmp_path, patients=people, periodic=[*measured, last])
    cohort = eicu_cohort(tmp_path, EicuSettings(sepsis="none"))
    assert stays_of(cohort) == {"hospital-73": ["1"]}
    left = {step.label: step.total for step in cohort.flow.steps}
    assert left["at most 365 days of vital signs"] == 1


def test_a_hospital_that_its_table_lacks_is_refused(tmp_path: Path) -> None:
    write_eicu(tmp_path, patients=[{}, {"patientunitstayid": 2, "hospitalid": 74}])
    with pytest.raises(SourceError, match=r"hospital lacks the rows of 1 of the 2 stays"):
        eicu_cohort(tmp_path, EicuSettings(sites="region", sepsis="none"))


def test_a_stay_without_a_discharge_ends_with_the_hospital_stay(tmp_path: Path) -> None:
    people = [
        {"uniquepid": "a", "unitdischargeoffset": None},
        {"uniquepid": "b", "unitdischargeoffset": None, "hospitaldischargeoffset": None},
    ]
    cohort = prepared(tmp_path, people)
    assert stays_of(cohort) == {"hospital-73": ["1"]}
    assert "with a known discharge" in [step.label for step in cohort.flow.steps]


@pytest.mark.parametrize(
    "wrong",
    [
        {"sites": "ward"},
        {"sepsis": "angus"},
        {"min_stays": -1},
        {"step_minutes": 0},
        {"min_hours": -1},
    ],
)
def test_wrong_settings_are_refused(wrong: dict[str, object]) -> None:
    (name,) = wrong
    with pytest.raises(UsageError, match=f"--{name.replace('_', '-')}"):
        EicuSettings(**wrong)  # type: ignore[arg-type]


def without_a_table(folder: Path) -> None:
    (folder / "nurseCharting.csv").unlink()


def without_a_column(folder: Path) -> None:
    text = (folder / "vitalPeriodic.csv").read_text()
    (folder / "vitalPeriodic.csv").write_text(text.replace("heartrate", "pulse", 1))


def with_semicolons(folder: Path) -> None:
    text = (folder / "patient.csv").read_text()
    (folder / "patient.csv").write_text(text.replace(",", ";"))


def emptied(folder: Path) -> None:
    (folder / "vitalAperiodic.csv").write_text("")


def without_rows(folder: Path) -> None:
    text = (folder / "nurseCharting.csv").read_text()
    (folder / "nurseCharting.csv").write_text(text.split("\n", 1)[0] + "\n")


def cut_off(folder: Path) -> None:
    data = gzip.compress((folder / "vitalPeriodic.csv").read_bytes())
    (folder / "vitalPeriodic.csv.gz").write_bytes(data[:-20])


def stays_twice(folder: Path) -> None:
    text = (folder / "patient.csv").read_text()
    (folder / "patient.csv").write_text(text + text.split("\n", 1)[1])


def one_level_down(folder: Path) -> None:
    (folder / "inner").mkdir()
    for path in folder.glob("*.csv"):
        path.rename(folder / "inner" / path.name)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (without_a_table, "no table nurseCharting, needed for the vital signs"),
        (without_a_column, "lacks the column HEARTRATE"),
        (with_semicolons, "separated by semicolons"),
        (emptied, "vitalAperiodic.csv is damaged: it is empty"),
        (without_rows, "nurseCharting.csv has no rows, which are needed for the vital signs"),
        (cut_off, "vitalPeriodic.csv.gz is damaged"),
        (stays_twice, "patient or hospital: the stay 1 occurs twice"),
        (one_level_down, "inner has it"),
    ],
)
def test_a_wrong_folder_is_one_line_and_leaves_nothing(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    spoil: Callable[[Path], None],
    said: str,
) -> None:
    source, out = tmp_path / "eicu", tmp_path / "cohort"
    source.mkdir()
    write_eicu(source, periodic=hours_of_monitor(1, 14))
    spoil(source)
    arguments = ["--eicu-dir", str(source), "--out", str(out), "--sepsis", "none"]
    assert run(app, ["prepare", "eicu", *arguments]) == 3
    captured = capsys.readouterr()
    assert said in captured.err
    assert captured.err.splitlines()[0].startswith("error: ")
    assert not out.exists()


@pytest.fixture(scope="module")
def demo(shared_data: Path) -> Cohort:
    return eicu_cohort(shared_data / DEMO, EicuSettings(sepsis="none", min_hours=0))


def test_hours_of_the_demo_are_those_of_a_slow_reader(demo: Cohort, shared_data: Path) -> None:
    ours = pd.concat(demo.sites.values())
    ours["stay"] = ours["stay_id"].astype(int)
    ours = ours.set_index(["stay", "step"]).sort_index()[list(VITAL_NAMES)]
    theirs = slow_means(shared_data / DEMO, 60).set_index(["stay", "step"])
    theirs = theirs[theirs.index.get_level_values("stay").isin(ours.index.get_level_values("stay"))]
    assert len(ours) > 120_000
    assert ours.index.equals(theirs.index)
    np.testing.assert_allclose(ours.to_numpy(float), theirs.to_numpy(float), rtol=1e-6)


def test_the_dirt_of_the_demo_is_dropped_and_counted(demo: Cohort, shared_data: Path) -> None:
    folder = shared_data / DEMO
    planted = json.loads((folder / "graft.json").read_text())
    planted = planted["dirty rows of vitalPeriodic by kind"]
    raw = pd.read_csv(folder / "vitalPeriodic.csv.gz")
    counts = {
        reason.removeprefix("vitalPeriodic: "): count
        for reason, count in demo.dropped.items()
        if reason.startswith("vitalPeriodic")
    }
    assert counts["duplicate row"] == planted["exact duplicate"]
    assert counts["row before the unit stay"] == planted["before the unit, offset negative"]
    # The published medians have zeros and values above the range of their own.
    above = raw["systemicmean"] > raw["systemicsystolic"]
    heart_rates = (raw["heartrate"] <= 0) | (raw["heartrate"] >= 300)
    breaths = (raw["respiration"] <= 0) | (raw["respiration"] >= 70)
    assert planted["heart rate 0"] + planted["heart rate 999"] == 60
    assert 60 <= counts["impossible heart rate"] <= heart_rates.sum() == 78
    assert counts["impossible oxygen saturation"] == planted["sao2 0"]
    assert (raw["respiration"] == 250).sum() == planted["respiration 250"]
    assert counts["impossible respiratory rate"] <= breaths.sum()
    assert counts["mean pressure above systolic"] == above.sum() == 23
    assert (raw["observationoffset"] == 2_000_000).sum() == planted["years after the stay"]
    assert max(rows["step"].max() for rows in demo.sites.values()) < 24 * 60


@pytest.mark.parametrize(
    ("kind", "number"), [("region", 5), ("unit", 5), ("bed-size", 5), ("teaching", 2)]
)
def test_sites_of_the_demo(shared_data: Path, kind: str, number: int) -> None:
    cohort = eicu_cohort(shared_data / DEMO, EicuSettings(sites=kind, step_minutes=240))
    people = [set(rows["patient_id"]) for rows in cohort.sites.values()]
    assert len(people) == number
    assert len(set.union(*people)) == sum(map(len, people))


@pytest.mark.slow
def test_the_demo_by_hospital(demo: Cohort, tmp_path: Path) -> None:
    # Of 186; hospital 123 has no vital sign.
    assert len(demo.sites) == 185
    record = write_cohort(demo, tmp_path / "cohort")
    assert demo.patients is not None
    assert demo.patients["patient_id"].is_unique
    sizes = [site["patients_per_split"] for site in record["sites"].values()]
    # Most hospitals of the demo lack validation or test patients of their own.
    assert sum(not all(size.values()) for size in sizes) > 50
    some = demo.patients["patient_id"].iloc[0]
    assert split_of(some) in sizes[0]


@pytest.mark.slow
def test_the_demo_gives_the_same_bytes_from_parquet_in_another_order(
    shared_data: Path, tmp_path: Path
) -> None:
    source = shared_data / DEMO
    other = tmp_path / "shuffled"
    other.mkdir()
    for name in ("vitalPeriodic", "vitalAperiodic", "nurseCharting", "patient", "hospital"):
        rows = pd.read_csv(source / f"{name}.csv.gz", dtype={"age": str})
        rows.sample(frac=1, random_state=0).to_parquet(other / f"{name}.parquet", index=False)
    settings = EicuSettings(sites="region")
    hashes = [
        [
            site["sha256"]
            for site in write_cohort(eicu_cohort(folder, settings), tmp_path / name)[
                "sites"
            ].values()
        ]
        for folder, name in ((source, "a"), (other, "b"))
    ]
    assert hashes[0] == hashes[1]
    shutil.rmtree(tmp_path / "a")
