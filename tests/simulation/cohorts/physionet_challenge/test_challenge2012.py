from __future__ import annotations

import tarfile
from collections import defaultdict
from pathlib import Path
from statistics import fmean

import numpy as np
import pandas as pd
import pytest

from common.data.cohort_writer import Cohort, write_cohort
from common.data.vitals import VITAL_NAMES, VITALS
from common.errors import SourceError, UsageError
from simulation.cohorts.physionet_challenge import challenge_2012
from simulation.cohorts.physionet_challenge.challenge2012 import VITAL_OF_PARAMETER

ARCHIVE = "challenge-2012-set-a.tar.xz"


def record(*rows: str, age: object = 60, icu_type: object = 3) -> str:
    general = ["RecordID,1", f"Age,{age}", "Gender,0", "Height,-1", f"ICUType,{icu_type}"]
    lines = ["Time,Parameter,Value", *(f"00:00,{row}" for row in general), *rows]
    return "\n".join(lines) + "\n"


def write(folder: Path, files: dict[str, str]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)
    return folder


def only(tmp_path: Path, *rows: str, step_minutes: int = 60) -> pd.DataFrame:
    """The steps of one MICU stay."""
    source = write(tmp_path, {"132539.txt": record(*rows)})
    return challenge_2012(source, step_minutes=step_minutes, min_hours=0).sites["micu"]


def stays(cohort: Cohort) -> dict[str, list[str]]:
    return {site: sorted(set(rows["stay_id"])) for site, rows in cohort.sites.items()}


def test_sites_come_from_the_icu_type(tmp_path: Path) -> None:
    files = {f"set-a/{kind}.txt": record("11:00,HR,80", icu_type=kind) for kind in (4, 2, 3, 1)}
    files |= {
        "set-b/5.txt": record("11:00,HR,80", icu_type=1),
        "Outcomes-a.txt": "RecordID,SAPS-I\n1,6\n",
    }
    cohort = challenge_2012(write(tmp_path, files))
    assert stays(cohort) == {"ccu": ["1", "5"], "csru": ["2"], "micu": ["3"], "sicu": ["4"]}


def test_rules_are_applied_and_counted(tmp_path: Path) -> None:
    files = {
        "1.txt": record("11:59,HR,80"),
        "2.txt": record("10:59,HR,80"),
        "3.txt": record("20:00,HR,80", age=17),
        "4.txt": record("20:00,HR,80", age=-1),
        "5.txt": record("20:00,HR,80", age=18),
        "6.txt": record("20:00,HR,-1"),
        "7.txt": record("20:00,Urine,60"),
        "8.txt": record(),
    }
    cohort = challenge_2012(write(tmp_path, files))
    assert {step.label: step.total for step in cohort.flow.steps} == {
        "ICU stays in the source": 8,
        "adults (18 years or older)": 6,
        "at least 12 h of vital signs": 2,
    }
    assert stays(cohort) == {"micu": ["1", "5"]}
    assert cohort.patients is not None
    assert cohort.patients.to_numpy().tolist() == [
        ["1", "45-64", "female"],
        ["5", "18-44", "female"],
    ]
    assert cohort.dropped == {"impossible value": 1}
    assert cohort.parameters == {"step_minutes": 60, "min_hours": 12}
    assert cohort.rule == (
        "all stays (the source has no sepsis label), age>=18, at least 12 h, 60 min steps"
    )


def test_cuff_and_line_are_merged_by_the_chart_time(tmp_path: Path) -> None:
    rows = only(
        tmp_path,
        "00:10,SysABP,100",
        "00:10,NISysABP,120",
        "00:50,NISysABP,140",
        "00:10,DiasABP,50",
        "00:50,NIDiasABP,60",
        "00:10,MAP,70",
        "00:10,MAP,80",
        "00:10,NIMAP,90",
        "00:50,NIMAP,90",
    )
    assert len(rows) == 1
    assert rows["sbp"].item() == 125  # the mean of 110 and 140, not of 100, 120 and 140
    assert rows["dbp"].item() == 55
    assert rows["mbp"].item() == 85


def test_each_parameter_finds_its_vital(tmp_path: Path) -> None:
    rows = only(tmp_path, "00:59,HR,61", "01:00,RespRate,12", "01:59,Temp,36.5", "48:00,SaO2,98")
    assert rows["step"].tolist() == [0, 1, 48]
    np.testing.assert_array_equal(rows["heart_rate"], [61, np.nan, np.nan])
    np.testing.assert_array_equal(rows["resp_rate"], [np.nan, 12, np.nan])
    np.testing.assert_array_equal(rows["temperature_c"], [np.nan, 36.5, np.nan])
    np.testing.assert_array_equal(rows["spo2"], [np.nan, np.nan, 98])


@pytest.mark.parametrize(
    ("step_minutes", "means"), [(30, [60, 70, 80, 90]), (60, [65, 85]), (120, [75])]
)
def test_steps_of_any_length(tmp_path: Path, step_minutes: int, means: list[float]) -> None:
    readings = ["00:00,HR,60", "00:30,HR,70", "01:00,HR,80", "01:59,HR,90"]
    rows = only(tmp_path, *readings, step_minutes=step_minutes)
    assert rows["heart_rate"].tolist() == means


def test_drops_are_counted_by_reason(tmp_path: Path) -> None:
    rows = ["13:00,HR,80", "13:00,HR,80", "13:01,HR,80", "13:02,HR,", "13:02,HR,?", "13:03,Temp,0"]
    cohort = challenge_2012(write(tmp_path, {"1.txt": record(*rows)}))
    assert cohort.dropped == {"duplicate": 1, "impossible value": 1, "no number": 2}


def test_archive_and_folder_give_the_same_tables(tmp_path: Path) -> None:
    files = {
        f"set-a/{kind}.txt": record("11:00,HR,80", "11:30,SysABP,101.3", icu_type=kind)
        for kind in (1, 2, 3, 4)
    }
    folder = write(tmp_path / "folder", dict(reversed(files.items())))
    with tarfile.open(tmp_path / "records.tar.gz", "w:gz") as tar:
        tar.add(folder, "unpacked/somewhere")
    for name in ("folder", "records.tar.gz"):
        write_cohort(challenge_2012(tmp_path / name), tmp_path / "out" / name)
    tables = [
        {path.name: path.read_bytes() for path in (tmp_path / "out" / name / "sites").iterdir()}
        for name in ("folder", "records.tar.gz")
    ]
    assert len(tables[0]) == 4
    assert tables[0] == tables[1]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (record().replace("Value", "Reading"), "lacks the column Value"),
        (record("01:00,HR"), "row 6 has 2 fields"),
        (record("1:60,HR,80"), "Time must be a time HH:MM, got '1:60'"),
        (record(",HR,80"), "Time must be a time HH:MM, got ''"),
        (record(icu_type=5), "ICUType must be 1, 2, 3 or 4, got 5"),
        (record(icu_type=-1), "ICUType must be 1, 2, 3 or 4, got -1"),
        (record().replace("00:00,ICUType,3\n", ""), "ICUType must be 1, 2, 3 or 4, got none"),
        ("", "holds no rows"),
    ],
)
def test_a_malformed_record_is_refused_by_name(tmp_path: Path, content: str, message: str) -> None:
    source = write(tmp_path, {"1.txt": record("11:00,HR,80"), "x/2.txt": content})
    with pytest.raises(SourceError, match=rf"record x/2\.txt.* {message}"):
        challenge_2012(source)


@pytest.mark.parametrize("settings", [{"step_minutes": 0}, {"min_hours": -1}])
def test_settings_that_mean_nothing_are_refused(tmp_path: Path, settings: dict[str, int]) -> None:
    with pytest.raises(UsageError, match="got"):
        challenge_2012(tmp_path, **settings)  # type: ignore[arg-type]


def test_a_source_of_another_kind_is_refused(tmp_path: Path) -> None:
    write(tmp_path, {"p100001.psv": "HR|O2Sat\n"})
    with pytest.raises(SourceError, match=r"holds no record; looked for files .* 132539\.txt"):
        challenge_2012(tmp_path)


@pytest.fixture(scope="module")
def cohort(shared_data: Path) -> Cohort:
    """The cohort of the real records."""
    return challenge_2012(shared_data / ARCHIVE)


def loop_hours(content: str) -> pd.DataFrame:
    """A stay's hourly vitals by plain Python."""
    charted: dict[tuple[str, str], set[tuple[str, float]]] = defaultdict(set)
    for line in content.splitlines()[1:]:
        time, parameter, text = line.split(",")
        if parameter in VITAL_OF_PARAMETER:
            vital = VITALS[VITAL_NAMES.index(VITAL_OF_PARAMETER[parameter])]
            if vital.valid(np.array(float(text))):
                charted[vital.name, time].add((parameter, float(text)))
    hours: dict[int, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for (name, time), readings in charted.items():
        hours[int(time[:2])][name].append(fmean(value for _, value in readings))
    means = {
        hour: {name: fmean(values) for name, values in vitals.items()}
        for hour, vitals in hours.items()
    }
    frame = pd.DataFrame.from_dict(means, orient="index").reindex(columns=list(VITAL_NAMES))
    return frame.sort_index()


def test_the_real_records_are_counted(cohort: Cohort) -> None:
    source, adult, long = cohort.flow.steps
    assert source.kept == {"ccu": 577, "csru": 874, "micu": 1481, "sicu": 1068}
    assert (source.total, adult.total, long.total) == (4000, 3994, 3935)
    assert cohort.dropped == {"impossible value": 1906}


def test_every_tenth_real_record_equals_a_plain_loop(shared_data: Path, cohort: Cohort) -> None:
    got = dict(list(pd.concat(cohort.sites.values()).groupby("stay_id")))
    compared = 0
    with tarfile.open(shared_data / ARCHIVE) as tar:
        for index, member in enumerate(tar):
            file = tar.extractfile(member)
            if index % 10 or file is None:
                continue
            content = file.read().decode()
            name = Path(member.name).stem
            expected = loop_hours(content)
            age = float(content.split(",Age,")[1].split("\n")[0])
            if age < 18 or expected.empty or expected.index.max() + 1 < 12:
                assert name not in got
                continue
            np.testing.assert_array_equal(got[name]["step"], expected.index)
            np.testing.assert_allclose(got[name][list(VITAL_NAMES)], expected, rtol=1e-6)
            compared += 1
    assert compared > 380


def test_a_real_record_by_hand(cohort: Cohort) -> None:
    # 132539.txt, hour 0: at 00:07 HR 73, NIDiasABP 65, NIMAP 92.33, NISysABP 147, RespRate 19,
    # Temp 35.1; at 00:37 HR 77, NIDiasABP 58, NIMAP 91, NISysABP 157, RespRate 19, Temp 35.6.
    first = cohort.sites["sicu"].query("stay_id == '132539' and step == 0").iloc[0]
    means = [75, 152, 61.5, 91.665, 19, 35.35, np.nan]
    assert first[list(VITAL_NAMES)].tolist() == pytest.approx(means, rel=1e-6, nan_ok=True)


def test_the_real_cohort_is_written_whole(cohort: Cohort, tmp_path: Path) -> None:
    written = write_cohort(cohort, tmp_path / "out")  # validates ranges, keys and splits
    assert {site: summary["stays"] for site, summary in written["sites"].items()} == {
        "ccu": 571,
        "csru": 867,
        "micu": 1436,
        "sicu": 1061,
    }
