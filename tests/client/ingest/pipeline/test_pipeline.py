from __future__ import annotations

import io
import json
import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from rich.console import Console

from client.data_quality.report import check_folder, render_check
from client.ingest.mapping.site_mapping import read_mapping
from client.ingest.pseudonyms import hash_ids, read_secret
from common.data.cohort_folder import INGEST_FILE, read_cohort_record, site_table_paths
from common.data.site_table import read_site_table
from common.errors import CohortError, FedvitalsError, SourceError, UsageError
from tests.client.ingest.hospital import HEADER, hours_of, long_mapping, run, write_rows

TWO = [*hours_of("a", "1", {0: "80", 5: "90"}), *hours_of("b", "2", {0: "70", 1: "71"})]


def frame_of(out: Path) -> pd.DataFrame:
    return read_site_table(out / "sites" / "st-mary.parquet").frame


def stays_of(out: Path) -> dict[str, list[int]]:
    """The steps with a heart rate, by stay."""
    frame = frame_of(out)
    observed = frame[frame["heart_rate"].notna()]
    return {str(stay): rows["step"].tolist() for stay, rows in observed.groupby("stay_id")}


def flow_of(record: dict[str, Any]) -> dict[str, int]:
    return {step["label"]: step["excluded"] for step in record["flow"]}


def test_the_record_says_what_was_done(tmp_path: Path) -> None:
    rows = [*TWO, *TWO[:1], ("a", "1", "2024-03-01 02:00", "weight", "80", "kg")]
    rows += [("a", "1", "2024-03-01 02:00", "HR", text, "") for text in ("n/a", "999", "")]
    record = run(long_mapping(tmp_path), [write_rows(tmp_path / "t.csv", rows)], tmp_path / "out")
    assert read_cohort_record(tmp_path / "out", INGEST_FILE) == json.loads(json.dumps(record))
    assert record["rows"] == {"read": 9, "of other codes": 1}
    counts = record["measurements"]["heart_rate"]
    # Rows that cannot be read are no duplicates of each other.
    assert counts == {
        "read": 8,
        "duplicate": 1,
        "no number": 2,
        "impossible value": 1,
        "used": 4,
    }
    assert record["table"]["patients"] == 2
    assert list(site_table_paths(tmp_path / "out")) == ["st-mary"]


def test_stays_by_bounds_in_a_table_of_their_own(tmp_path: Path) -> None:
    stays = [
        ("a", "10", "2024-03-01 01:30", "2024-03-01 05:00"),
        (
            "a",
            "11",
            "2024-03-01 05:00",
            "",
        ),  # until its patient's next stay, of which there is none
        ("b", "20", "2024-03-01 00:00", "2024-03-01 00:30"),
        ("c", "30", "2024-03-01 00:00", "2024-03-02 00:00"),
    ]
    write_rows(tmp_path / "stays.csv", stays, ("PATIENT", "STAY", "IN", "OUT"))
    rows = hours_of("a", "", dict.fromkeys(range(8), "80")) + hours_of("b", "", {0: "70", 2: "71"})
    stay = 'table = "stays.csv"\npatient = "patient"\nid = "stay"\nstart = "in"\nend = "out"'
    mapping = long_mapping(tmp_path, stay=stay)
    record = run(mapping, [write_rows(tmp_path / "t.csv", rows)], tmp_path / "out")
    assert stays_of(tmp_path / "out") == {"10": [0, 1, 2], "11": [0, 1, 2], "20": [0]}
    assert record["measurements"]["heart_rate"]["outside every stay"] == 3
    assert flow_of(record)["with a vital sign"] == 1
    assert record["signs"]["early"]["share"] == 0.25


@pytest.mark.parametrize("hashed", [False, True])
def test_table_1_takes_age_and_sex_from_the_table_of_stays(tmp_path: Path, hashed: bool) -> None:
    header = ("pid", "stay", "in", "out", "years", "gender", "ward", "sepsis", "dead")
    day = "2024-03-0{} 00:00"
    stays = [
        # The second stay in time comes first in the file, and in the order of ids.
        ("a", "10", day.format(3), day.format(4), "61", "F", "ICU 2", "0", "1"),
        ("a", "11", day.format(1), day.format(3), "60", "F", "ICU 1", "1", "0"),
        ("b", "20", day.format(1), "", "> 89", "male", "ICU 1", "", ""),
        ("c", "30", day.format(1), day.format(2), "", "?", "", "no", "N"),
        ("d", "40", day.format(1), day.format(2), "33", "F", "ICU 1", "1", "1"),
    ]
    write_rows(tmp_path / "stays.csv", stays, header)
    # d has no measurement, and is not in the table.
    rows = [row for who in "abc" for row in hours_of(who, "", {0: "80", 1: "81", 50: "82"})]
    more = """[patients]
age = "years"
sex = "gender"
unit = "ward"
septic = "sepsis"
died = "dead"
"""
    more += "[ids]\nhash = true\n" if hashed else ""
    stay = 'table = "stays.csv"\nid = "stay"\nstart = "in"\nend = "out"'
    mapping = long_mapping(tmp_path, stay=stay, more=more)
    record = run(mapping, [write_rows(tmp_path / "t.csv", rows)], tmp_path / "out")
    group = record["characteristics"]["sites"]["st-mary"]
    assert (group["patients"], group["stays"]) == (3, 4)
    assert group["age"] == {"known": 2, "q1": 67.5, "median": 75.0, "q3": 82.5}
    assert group["over_89"] == 1
    assert group["sex"] == {"female": 1, "male": 1, "unknown": 1}
    assert group["unit"] == {"ICU 1": 2, "ICU 2": 1, "unknown": 1}
    assert group["septic"] == {"yes": 1, "known": 3}
    assert group["died"] == {"yes": 1, "known": 2}
    assert group["icu_days"] == {"known": 3, "q1": 1.0, "median": 1.0, "q3": 1.5}
    assert record["characteristics"]["sepsis"] == "column sepsis"
    # The site table is the one without them, byte for byte.
    plain = long_mapping(tmp_path, stay=stay, more="[ids]\nhash = true\n" if hashed else "")
    run(plain, [tmp_path / "t.csv"], tmp_path / "plain")
    tables = [next((tmp_path / name / "sites").iterdir()) for name in ("out", "plain")]
    assert tables[0].read_bytes() == tables[1].read_bytes()
    # `check` shows the same; of a table that was changed since, only what the table tells.
    (report,) = check_folder(tmp_path / "out")
    assert report.characteristics == record["characteristics"]
    (alone,) = check_folder(tables[0])
    assert alone.characteristics["overall"]["age"] is None
    assert alone.characteristics["overall"]["vitals"] == group["vitals"]
    console = Console(width=80, file=io.StringIO(), record=True)
    console.print(render_check(report))
    text = console.export_text()
    assert "Table 1. Characteristics of the patients" in text
    assert "75 [68, 82]" in text


def test_a_stay_listed_twice_with_different_times_is_refused(tmp_path: Path) -> None:
    stays = [("a", "1", "2024-03-01 00:00"), ("a", "1", "2024-03-02 00:00")]
    write_rows(tmp_path / "stays.csv", stays, ("pid", "stay", "in"))
    mapping = long_mapping(tmp_path, stay='table = "stays.csv"\nid = "stay"\nstart = "in"')
    with pytest.raises(SourceError, match=r"stays\.csv has 1 stays twice"):
        run(mapping, [write_rows(tmp_path / "t.csv", TWO)], tmp_path / "out")


def test_stays_by_admission_and_discharge_in_the_rows(tmp_path: Path) -> None:
    bounds = {"1": ("2024-03-01 00:30", "2024-03-01 02:00"), "2": ("2024-03-01 04:00", "")}
    rows = [
        (*row, *bounds[stay])
        for stay in bounds
        for row in hours_of("a", stay, dict.fromkeys(range(7), "80"))
    ]
    path = write_rows(tmp_path / "t.csv", rows, (*HEADER, "adm", "dis"))
    mapping = long_mapping(tmp_path, stay='id = "enc"\nstart = "adm"\nend = "dis"')
    run(mapping, [path], tmp_path / "by-id")
    assert stays_of(tmp_path / "by-id") == {"1": [0, 1], "2": [0, 1, 2]}
    # Without an id the admissions count the stays of a patient.
    mapping = long_mapping(tmp_path, stay='start = "adm"\nend = "dis"')
    run(mapping, [path], tmp_path / "counted")
    assert stays_of(tmp_path / "counted") == {"a-1": [0, 1], "a-2": [0, 1, 2]}


def test_a_stay_id_of_two_patients_is_nobodys(tmp_path: Path) -> None:
    rows = [*TWO, *hours_of("c", "1", {0: "66"})]
    path = write_rows(tmp_path / "t.csv", rows)
    record = run(long_mapping(tmp_path), [path], tmp_path / "out")
    assert flow_of(record)["an id that is one patient's"] == 2
    assert list(stays_of(tmp_path / "out")) == ["2"]
    mapping = long_mapping(tmp_path, stay='id = "enc"\nper-patient = true')
    run(mapping, [path], tmp_path / "own")
    assert list(stays_of(tmp_path / "own")) == ["a-1", "b-2", "c-1"]


def test_a_date_gone_wrong_makes_no_endless_stay(tmp_path: Path) -> None:
    rows = [*TWO, ("a", "1", "2094-03-01 00:00", "HR", "80", "")]
    record = run(long_mapping(tmp_path), [write_rows(tmp_path / "t.csv", rows)], tmp_path / "out")
    assert flow_of(record)["at most 365 days"] == 1
    assert list(stays_of(tmp_path / "out")) == ["2"]
    assert record["measurements"]["heart_rate"]["in a stay left out"] == 3


def test_the_hospital_chooses_its_patients(tmp_path: Path) -> None:
    path = write_rows(
        tmp_path / "t.csv",
        [(*row, "Y" if row[0] == "a" and row[2].endswith("05:00") else "N") for row in TWO],
        (*HEADER, "septic"),
    )
    (tmp_path / "keep.txt").write_text("# chosen by chart review\n 2 \n\n99\n")
    mapping = long_mapping(tmp_path, replaced={"min-hours = 0": 'min-hours = 0\nflag = "septic"'})
    run(mapping, [path], tmp_path / "flag")
    assert list(stays_of(tmp_path / "flag")) == ["1"]
    keep = 'min-hours = 0\nkeep-stays = "keep.txt"'
    mapping = long_mapping(tmp_path, replaced={"min-hours = 0": keep})
    record = run(mapping, [path], tmp_path / "list")
    assert list(stays_of(tmp_path / "list")) == ["2"]
    assert record["ids_not_found"] == {"stay_id": 1}
    # Not every stay has its row flagged in the silence between two stays.
    mapping = long_mapping(
        tmp_path,
        stay="gap-hours = 2",
        replaced={"min-hours = 0": 'min-hours = 0\nflag = "septic"'},
    )
    run(mapping, [path], tmp_path / "gap")
    assert list(stays_of(tmp_path / "gap")) == ["a-2"]


def test_short_stays_and_dropped_rows(tmp_path: Path) -> None:
    rows = [
        (*row, "void" if row[0] == "a" and row[2].endswith("05:00") else "final") for row in TWO
    ]
    path = write_rows(tmp_path / "t.csv", rows, (*HEADER, "status"))
    record = run(long_mapping(tmp_path, min_hours=6), [path], tmp_path / "out")
    assert flow_of(record)["at least 6 h of vital signs"] == 1
    mapping = long_mapping(tmp_path, min_hours=6, more='[drop]\nSTATUS = ["void"]\n')
    with pytest.raises(
        CohortError, match=r"no stay is left after the rule 'at least 6 h.* longest stay spans 1 h"
    ):
        run(mapping, [path], tmp_path / "none")
    mapping = long_mapping(tmp_path, more='[drop]\nSTATUS = ["void"]\n')
    record = run(mapping, [path], tmp_path / "dropped")
    assert record["measurements"]["heart_rate"]["left out by a drop rule"] == 1


def test_units_by_row_and_by_vital(tmp_path: Path) -> None:
    rows = [
        ("a", "1", "2024-03-01 00:00", "T", "98.6", "Deg F"),
        ("a", "1", "2024-03-01 01:00", "T", "37", "°C"),
        ("a", "1", "2024-03-01 02:00", "T", "37", ""),
        ("a", "1", "2024-03-01 03:00", "T", "37", "furlong"),
        ("a", "1", "2024-03-01 04:00", "ART-S", "16", "kPa"),
        ("a", "1", "2024-03-01 04:10", "NBP-S", "90", "mmHg"),
        ("a", "1", "2024-03-01 05:00", "NBP-S", "91", "mmHg"),
    ]
    record = run(long_mapping(tmp_path), [write_rows(tmp_path / "t.csv", rows)], tmp_path / "out")
    frame = frame_of(tmp_path / "out")
    assert frame["temperature_c"].dropna().tolist() == [37.0, 37.0, 37.0]
    # The arterial line is trusted more than the cuff of the same hour.
    assert frame["sbp"].dropna().tolist() == pytest.approx([120.0099, 91.0], abs=1e-3)
    assert record["measurements"]["temperature_c"]["unknown unit"] == 1


WIDE = """
site = "st-mary"
shape = "wide"
[columns]
patient = "pid"
time = "at"
[time]
zone = "UTC"
[stay]
gap-hours = 24
[cohort]
rule = "all"
min-hours = 0
[vitals.heart_rate]
column = "Pulse"
[vitals.temperature_c]
column = "Temp (F)"
unit = "degF"
low = 70
[vitals.spo2]
column = "Sat"
unit = "fraction"
"""


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_wide_table(tmp_path: Path, kind: str) -> None:
    (tmp_path / "m.toml").write_text(WIDE)
    header = ("pid", "at", "Pulse", "Temp (F)", "Sat")
    rows = [
        ("a", "2024-03-01 00:00", "80", "98.6", "0.97"),
        ("a", "2024-03-01 00:00", "80", "", "0.97"),
        ("a", "2024-03-01 01:00", "", "69", ""),
        ("a", "2024-03-01 02:00", "90", "212", "1"),
    ]
    path = tmp_path / f"t.{kind}"
    if kind == "csv":
        write_rows(path, rows, header)
    else:
        frame = pd.DataFrame(rows, columns=list(header))
        for column in header[2:]:
            frame[column] = pd.to_numeric(frame[column])
        frame.to_parquet(path)
    record = run(read_mapping(tmp_path / "m.toml"), [path], tmp_path / "out")
    frame = frame_of(tmp_path / "out")
    assert frame["heart_rate"].tolist()[::2] == [80.0, 90.0]
    assert frame["temperature_c"].dropna().tolist() == [37.0]
    assert frame["spo2"].dropna().tolist() == [97.0, 100.0]
    counts = record["measurements"]
    # Empty cells are no measurements; equal cells of two rows are one.
    assert counts["heart_rate"] == {"read": 3, "duplicate": 1, "used": 2}
    assert counts["temperature_c"] == {"read": 3, "impossible value": 2, "used": 1}


def test_hashed_ids_hold_no_id_in_the_clear(tmp_path: Path) -> None:
    rows = [*hours_of("PATIENT-77", "STAY-5", {0: "80", 1: "81"})]
    mapping = long_mapping(tmp_path, more="[ids]\nhash = true\n")
    path = write_rows(tmp_path / "t.csv", rows)
    run(mapping, [path], tmp_path / "out")
    frame = frame_of(tmp_path / "out")
    secret = read_secret(tmp_path / "secret")
    assert set(frame["patient_id"]) == set(hash_ids(["PATIENT-77"], secret, "patient"))
    for file in (tmp_path / "out").rglob("*"):
        if file.is_file():
            assert b"PATIENT-77" not in file.read_bytes()
            assert b"STAY-5" not in file.read_bytes()
    assert stat.S_IMODE((tmp_path / "secret").stat().st_mode) == 0o600
    # The same secret gives the same ids in every ingest, another secret gives others.
    run(mapping, [path], tmp_path / "again")
    assert frame_of(tmp_path / "again").equals(frame)
    (tmp_path / "secret").unlink()
    run(mapping, [path], tmp_path / "other")
    assert not set(frame_of(tmp_path / "other")["patient_id"]) & set(frame["patient_id"])


def test_a_secret_that_others_may_read_is_refused(tmp_path: Path) -> None:
    read_secret(tmp_path / "secret")
    (tmp_path / "secret").chmod(0o644)
    with pytest.raises(UsageError, match="others may read the secret"):
        read_secret(tmp_path / "secret")
    (tmp_path / "short").write_text("abcd")
    (tmp_path / "short").chmod(0o600)
    with pytest.raises(UsageError, match="64 hexadecimal digits"):
        read_secret(tmp_path / "short")


def test_another_table_is_kept_unless_overwritten(tmp_path: Path) -> None:
    mapping, out = long_mapping(tmp_path), tmp_path / "out"
    path = write_rows(tmp_path / "t.csv", TWO)
    run(mapping, [path], out)
    before = {file: file.read_bytes() for file in out.rglob("*") if file.is_file()}
    run(mapping, [path], out)
    assert before == {file: file.read_bytes() for file in out.rglob("*") if file.is_file()}
    write_rows(path, TWO[1:])
    with pytest.raises(CohortError, match="--overwrite"):
        run(mapping, [path], out)
    with pytest.raises(CohortError, match="another mapping"):
        run(long_mapping(tmp_path, min_hours=1), [path], out)
    assert before == {file: file.read_bytes() for file in out.rglob("*") if file.is_file()}
    run(mapping, [path], out, overwrite=True)
    assert before[out / "ingest.json"] != (out / "ingest.json").read_bytes()
    (out / "thesis.tex").write_text("years of work")
    with pytest.raises(CohortError, match=r"thesis\.tex"):
        run(mapping, [path], out, overwrite=True)
    assert not list(tmp_path.glob(".*")), "no scratch is left"


@pytest.mark.parametrize(
    ("rows", "more", "error", "message"),
    [
        ([], "", SourceError, "t.csv has a header and no row"),
        ([("a", "1", "x", "pulse", "80", "")], "", SourceError, "none of 1 rows has a code"),
        ([("a", "1", "x", "HR", "80", "")], "", UsageError, "reads none of 1 times, e.g. 'x'"),
        (TWO, '[drop]\nSTATE = ["x"]\n', UsageError, "unknown column of t.csv 'state'"),
    ],
)
def test_what_gives_no_table_says_why(
    tmp_path: Path, rows: list[Any], more: str, error: type[FedvitalsError], message: str
) -> None:
    mapping = long_mapping(tmp_path, more=more)
    with pytest.raises(error) as caught:
        run(mapping, [write_rows(tmp_path / "t.csv", rows)], tmp_path / "out")
    assert message in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_bad_pattern_of_times_is_the_mappings_fault(tmp_path: Path) -> None:
    mapping = long_mapping(tmp_path, replaced={'zone = "UTC"': 'zone = "UTC"\nformat = "%Q"'})
    with pytest.raises(UsageError, match=r"\[time\] format '%Q' cannot be used: .*%Q"):
        run(mapping, [write_rows(tmp_path / "t.csv", TWO)], tmp_path / "out")


@pytest.mark.slow
@pytest.mark.parametrize("after_s", [1.0, 2.0, 3.0])
def test_a_killed_ingest_leaves_nothing_that_is_accepted(tmp_path: Path, after_s: float) -> None:
    rows = [
        row
        for n in range(3000)
        for row in hours_of(str(n), str(n), {hour: str(60 + (n + hour) % 40) for hour in range(48)})
    ]
    write_rows(tmp_path / "t.csv", rows)
    long_mapping(tmp_path)
    command = [sys.executable, "-m", "client", "ingest", "--table", str(tmp_path / "t.csv")]
    command += ["--mapping", str(tmp_path / "mapping.toml"), "--out", str(tmp_path / "out")]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        time.sleep(after_s)
        os.kill(process.pid, signal.SIGKILL)
    # Either not there at all, or whole.
    if (tmp_path / "out").exists():
        assert read_cohort_record(tmp_path / "out", INGEST_FILE)["table"]["patients"] == 3000
        assert len(frame_of(tmp_path / "out")) == 3000 * 48
    run(long_mapping(tmp_path), [tmp_path / "t.csv"], tmp_path / "out")
    assert len(frame_of(tmp_path / "out")) == 3000 * 48
