from __future__ import annotations

import tarfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from common.data.cohort_writer import Cohort, write_cohort
from common.data.vitals import VITAL_NAMES, VITALS
from common.errors import FedvitalsError, SourceError, UsageError
from simulation.cohorts.physionet_challenge import challenge_2019
from simulation.cohorts.physionet_challenge.challenge2019 import VITAL_OF_COLUMN

ARCHIVE = "challenge-2019-training_setB-even.tar.xz"
HEADER = "HR|O2Sat|Temp|SBP|MAP|DBP|Resp|EtCO2|Age|Gender|Unit1|Unit2|ICULOS|SepsisLabel"


def record(
    hours: int = 12,
    *,
    start: int = 1,
    age: object = 60,
    gender: object = 0,
    units: str = "1|0",
    septic: bool = True,
    vitals: str = "80|97|37|120|85|60|18",
) -> str:
    rows = [
        f"{vitals}|NaN|{age}|{gender}|{units}|{start + hour}|{int(septic and hour == hours - 1)}"
        for hour in range(hours)
    ]
    return "\n".join([HEADER, *rows]) + "\n"


def write(folder: Path, files: dict[str, str]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)
    return folder


def flow(cohort: Cohort) -> dict[str, int]:
    return {step.label: step.total for step in cohort.flow.steps}


def stays(cohort: Cohort) -> dict[str, list[str]]:
    return {site: sorted(set(rows["stay_id"])) for site, rows in cohort.sites.items()}


def test_sites_come_from_hospital_and_unit(tmp_path: Path) -> None:
    files = {
        "training_setA/p000001.psv": record(units="1|0"),
        "training_setA/p000002.psv": record(units="0|1"),
        "training_setA/p000003.psv": record(units="NaN|NaN"),
        "training_setB/p100001.psv": record(units="0|1"),
        "loose/p100002.psv": record(units="0|0"),
        "p000004.psv": record(units="1|0"),
        "training_setB/p200001.psv": record(units="1|0"),
    }
    cohort = challenge_2019(write(tmp_path, files))
    assert stays(cohort) == {
        "a-micu": ["p000001", "p000004"],
        "a-sicu": ["p000002"],
        "a-unknown": ["p000003"],
        "b-micu": ["p200001"],
        "b-sicu": ["p100001"],
        "b-unknown": ["p100002"],
    }
    hospitals = challenge_2019(tmp_path, sites="hospital")
    assert stays(hospitals) == {
        "hospital-a": ["p000001", "p000002", "p000003", "p000004"],
        "hospital-b": ["p100001", "p100002", "p200001"],
    }
    assert hospitals.stays is not None
    assert set(hospitals.stays["care_unit"]) == {"micu", "sicu", "unknown"}
    with pytest.raises(UsageError, match="choose from unit, hospital"):
        challenge_2019(tmp_path, sites="ward")


def test_rules_are_applied_and_counted(tmp_path: Path) -> None:
    files = {
        "p100001.psv": record(),
        "p100002.psv": record(septic=False),
        "p100003.psv": record(age=17.9),
        "p100004.psv": record(age="NaN"),
        "p100005.psv": record(age=18),
        "p100006.psv": record(hours=11),
        "p100007.psv": record(vitals="NaN|NaN|NaN|NaN|NaN|NaN|NaN"),
    }
    source = write(tmp_path, files)

    cohort = challenge_2019(source)
    assert flow(cohort) == {
        "ICU stays in the source": 7,
        "adults (18 years or older)": 5,
        "sepsis by the rule label": 4,
        "at least 12 h of vital signs": 2,
    }
    assert stays(cohort) == {"b-micu": ["p100001", "p100005"]}
    assert cohort.parameters == {
        "sites": "unit",
        "sepsis": "label",
        "step_minutes": 60,
        "min_hours": 12,
    }
    assert cohort.rule == "sepsis=label, age>=18, at least 12 h, 60 min steps"

    everyone = challenge_2019(source, sepsis="none", min_hours=11)
    assert flow(everyone) == {
        "ICU stays in the source": 7,
        "adults (18 years or older)": 5,
        "at least 11 h of vital signs": 4,
    }


def test_table_1_counts_the_label_without_a_rule_too(tmp_path: Path) -> None:
    files = {
        "training_setA/p000001.psv": record(units="1|0", septic=False, age=60),
        "training_setA/p000002.psv": record(units="1|0", septic=True, age=70),
        "training_setB/p100001.psv": record(units="NaN|NaN", septic=True, age=80),
        "training_setB/p100002.psv": record(units="0|1", septic=True, age=17),
    }
    cohort = challenge_2019(write(tmp_path / "in", files), sepsis="none")
    found = write_cohort(cohort, tmp_path / "out")["characteristics"]
    assert found["sepsis"] == "SepsisLabel"
    assert found["overall"]["septic"] == {"yes": 2, "known": 3}
    assert found["overall"]["unit"] == {"micu": 2, "unknown": 1}
    assert found["sites"]["a-micu"]["age"]["median"] == 65
    assert (found["overall"]["died"], found["overall"]["icu_days"]) == (None, None)
    # A set without the label has the same stays.
    for path in (tmp_path / "in").rglob("*.psv"):
        lines = path.read_text().splitlines()
        path.write_text("\n".join(line.rpartition("|")[0] for line in lines) + "\n")
    unlabelled = challenge_2019(tmp_path / "in", sepsis="none")
    assert stays(unlabelled) == stays(cohort)
    found = write_cohort(unlabelled, tmp_path / "unlabelled")["characteristics"]
    assert (found["sepsis"], found["overall"]["septic"]) == ("", None)


def test_age_and_sex_are_told_beside_the_tables(tmp_path: Path) -> None:
    files = {
        "p100001.psv": record(age=64.5, gender=0),
        "p100002.psv": record(age=80, gender=1),
        "p100003.psv": record(age=30, gender="NaN"),
        "p100004.psv": record(hours=2),
    }
    patients = challenge_2019(write(tmp_path, files)).patients
    assert patients is not None
    assert patients.to_numpy().tolist() == [
        ["p100001", "45-64", "female"],
        ["p100002", "80+", "male"],
        ["p100003", "18-44", ""],
    ]


def test_steps_count_hours_from_the_first_row(tmp_path: Path) -> None:
    content = f"""{HEADER}
NaN|NaN|NaN|NaN|NaN|NaN|NaN|NaN|60|1|1|0|6|0
70|NaN|NaN|NaN|NaN|NaN|NaN|NaN|60|1|1|0|7|0
NaN|95|NaN|NaN|NaN|NaN|NaN|NaN|60|1|1|0|9|1
90|NaN|36.6|120|85|60|18|NaN|60|1|1|0|17|1
"""
    rows = challenge_2019(write(tmp_path, {"p100001.psv": content})).sites["b-micu"]
    assert rows["step"].tolist() == [1, 3, 11]
    np.testing.assert_array_equal(rows["heart_rate"], [70, np.nan, 90])
    np.testing.assert_array_equal(rows["spo2"], [np.nan, 95, np.nan])
    last = rows.iloc[-1]
    assert (last["sbp"], last["dbp"], last["mbp"], last["resp_rate"]) == (120, 60, 85, 18)
    assert last["temperature_c"] == np.float32(36.6)


def test_a_coarser_step_is_the_mean_of_what_was_observed(tmp_path: Path) -> None:
    lines = record(hours=12).splitlines()
    for hour, heart_rate in enumerate(["60", "NaN", "90", "100", "301", "NaN"]):
        lines[1 + hour] = lines[1 + hour].replace("80|", f"{heart_rate}|", 1)
    source = write(tmp_path, {"p100001.psv": "\n".join(lines)})

    cohort = challenge_2019(source, step_minutes=120)

    rows = cohort.sites["b-micu"]
    assert cohort.step_minutes == 120
    assert rows["step"].tolist() == [0, 1, 2, 3, 4, 5]
    np.testing.assert_array_equal(rows["heart_rate"], [60, 95, np.nan, 80, 80, 80])
    assert cohort.dropped == {"impossible value": 1}


def test_drops_are_counted_over_the_chosen_stays(tmp_path: Path) -> None:
    lines = record().splitlines()
    lines[1] = lines[1].replace("80|97", "-1|n/a")
    lines.append(lines[-1])
    files = {
        "p100001.psv": "\n".join(lines),
        "p100002.psv": record(septic=False, vitals="0|0|0|0|0|0|0"),
    }
    cohort = challenge_2019(write(tmp_path, files))
    assert cohort.dropped == {"duplicate": 7, "impossible value": 1, "no number": 1}


def test_archive_and_folder_give_the_same_tables(tmp_path: Path) -> None:
    files = {
        f"training_setB/p10000{index}.psv": record(units=units, start=index)
        for index, units in enumerate(["1|0", "0|1", "NaN|NaN", "1|0"])
    }
    folder = write(tmp_path / "folder", dict(reversed(files.items())))
    with tarfile.open(tmp_path / "records.tar.xz", "w:xz") as tar:
        for name in reversed(files):
            tar.add(folder / name, name)

    for name in ("folder", "records.tar.xz"):
        write_cohort(challenge_2019(tmp_path / name), tmp_path / "out" / name)

    tables = [
        {path.name: path.read_bytes() for path in (tmp_path / "out" / name / "sites").iterdir()}
        for name in ("folder", "records.tar.xz")
    ]
    assert sorted(tables[0]) == ["b-micu.parquet", "b-sicu.parquet", "b-unknown.parquet"]
    assert tables[0] == tables[1]


def test_labels_are_not_asked_for_where_they_do_not_matter(tmp_path: Path) -> None:
    unlabelled = "\n".join(line.rpartition("|")[0] for line in record().splitlines())
    source = write(tmp_path, {"p100001.psv": unlabelled})
    assert stays(challenge_2019(source, sepsis="none")) == {"b-micu": ["p100001"]}
    with pytest.raises(SourceError, match=r"p100001\.psv lacks the column SepsisLabel"):
        challenge_2019(source)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("p100001.psv", record().replace("O2Sat", "SpO2"), "lacks the column O2Sat"),
        ("p100001.psv", record() + "80|97\n", "row 13 has 2 fields"),
        ("p100001.psv", record().replace("|3|0", "|x|0"), "ICULOS must be .* got 'x'"),
        ("p100001.psv", record().replace("|3|0", "|NaN|0"), "ICULOS must be .* got 'NaN'"),
        ("p100001.psv", record().replace("|3|0", "|3.5|0"), "ICULOS must be .* got '3.5'"),
        ("p100001.psv", record().replace("|3|0", "|9999999|0"), "ICULOS must be"),
        ("p100001.psv", record().replace("|3|0", "|3|2"), "SepsisLabel must be 0 or 1, got '2'"),
        ("p900001.psv", record(), "its hospital is not known"),
    ],
)
def test_a_malformed_record_is_refused_by_name(
    tmp_path: Path, name: str, content: str, message: str
) -> None:
    source = write(tmp_path, {"p000001.psv": record(), f"x/{name}": content})
    with pytest.raises(SourceError, match=rf"record x/{name}.* {message}"):
        challenge_2019(source)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"step_minutes": 90}, "--step-minutes must be a multiple of 60 .* got 90"),
        ({"step_minutes": 0}, "--step-minutes must be at least 1, got 0"),
        ({"min_hours": -1}, "--min-hours must not be negative, got -1"),
        ({"sepsis": "angus"}, "--sepsis 'angus' is not known; choose from label, none"),
    ],
)
def test_settings_that_mean_nothing_are_refused(
    tmp_path: Path, settings: dict[str, object], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        challenge_2019(tmp_path, **settings)  # type: ignore[arg-type]


def test_a_source_of_another_kind_is_refused(tmp_path: Path) -> None:
    write(tmp_path, {"132539.txt": "Time,Parameter,Value\n"})
    with pytest.raises(SourceError, match=r"holds no record; looked for files .* p100002\.psv"):
        challenge_2019(tmp_path)


def test_an_empty_cohort_is_refused_when_written(tmp_path: Path) -> None:
    cohort = challenge_2019(write(tmp_path / "source", {"p100001.psv": record(age=17)}))
    assert cohort.sites == {}
    with pytest.raises(FedvitalsError, match="no stay is left"):
        write_cohort(cohort, tmp_path / "out")


@pytest.fixture(scope="module")
def raw_records(shared_data: Path) -> dict[str, list[dict[str, str]]]:
    """The real records by plain Python: a list of rows a stay."""
    with tarfile.open(shared_data / ARCHIVE) as tar:
        contents = {
            Path(member.name).stem: file.read().decode()
            for member in tar
            if (file := tar.extractfile(member)) is not None
        }
    parsed = {}
    for name, content in contents.items():
        header, *lines = [line.split("|") for line in content.splitlines()]
        parsed[name] = [dict(zip(header, line, strict=True)) for line in lines]
    return parsed


def loop_hours(rows: list[dict[str, str]]) -> pd.DataFrame:
    """A stay's vitals by the step, by plain Python."""
    found: dict[int, dict[str, float]] = {}
    for row in rows:
        step = int(row["ICULOS"]) - int(rows[0]["ICULOS"])
        for column, name in VITAL_OF_COLUMN.items():
            value = float(row[column])
            if VITALS[VITAL_NAMES.index(name)].valid(np.array(value)):
                found.setdefault(step, {})[name] = value
    frame = pd.DataFrame.from_dict(found, orient="index").reindex(columns=list(VITAL_NAMES))
    return frame.sort_index().astype("float32")


def test_the_real_records_in_whole(
    shared_data: Path, raw_records: dict[str, list[dict[str, str]]]
) -> None:
    cohort = challenge_2019(shared_data / ARCHIVE)

    source, adult, septic, long = cohort.flow.steps
    assert len(raw_records) == 4635
    assert source.kept == {"b-micu": 1596, "b-sicu": 1612, "b-unknown": 1427}
    assert adult.total == 4635 - sum(float(rows[0]["Age"]) < 18 for rows in raw_records.values())
    labelled = {
        name: loop_hours(rows)
        for name, rows in raw_records.items()
        if any(row["SepsisLabel"] == "1" for row in rows) and float(rows[0]["Age"]) >= 18
    }
    assert septic.total == len(labelled) == 250
    expected = {name: frame for name, frame in labelled.items() if frame.index.max() + 1 >= 12}
    assert long.kept == {"b-micu": 61, "b-sicu": 79, "b-unknown": 53}

    got = pd.concat(cohort.sites.values())
    assert got["stay_id"].equals(got["patient_id"])
    assert set(got["stay_id"]) == set(expected)
    for name, rows in got.groupby("stay_id"):
        np.testing.assert_array_equal(rows["step"], expected[str(name)].index)
        np.testing.assert_array_equal(rows[list(VITAL_NAMES)], expected[str(name)])


def test_a_real_record_by_hand(shared_data: Path) -> None:
    # p100002.psv: its rows 2 and 3 read 56.5|100|35.2|129|75|52.5|23 and 61|100|35.8|86|56|43|17;
    # its first row has no vitals.
    cohort = challenge_2019(shared_data / ARCHIVE, sepsis="none", step_minutes=180, min_hours=0)
    rows = cohort.sites["b-sicu"].query("stay_id == 'p100002' and step == 0")
    means = [rows[name].item() for name in VITAL_NAMES]
    assert means == pytest.approx([58.75, 107.5, 47.75, 65.5, 20, 35.5, 100], rel=1e-6)


def test_the_real_cohort_is_written_whole(shared_data: Path, tmp_path: Path) -> None:
    cohort = challenge_2019(shared_data / ARCHIVE, sepsis="none")
    written = write_cohort(cohort, tmp_path / "out")  # validates ranges, keys and splits
    assert {site: summary["stays"] for site, summary in written["sites"].items()} == {
        "b-micu": 1544,
        "b-sicu": 1580,
        "b-unknown": 1356,
    }
    assert list(written["inputs"]) == [ARCHIVE]
