"""A hospital's own split, from its mapping to the site table, the record and the check."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from client.cli import app
from client.data_quality.report import check_folder
from common.console import run as run_command
from common.data.site_table import read_site_table
from common.errors import SourceError, UsageError
from tests.client.ingest.hospital import HEADER, long_mapping, run, write_rows

COLUMN = """
[split]
column = "cohort"
train = ["2019"]
test = [2020]
validation-percent = 0
"""
IN_TIME = "\n[split]\nbefore = 2024-03-03\nvalidation-percent = 0\n"


def rows(*stays: tuple[str, str, int, str]) -> list[Any]:
    """Three hours of each stay: patient, stay, day of March 2024, cohort."""
    return [
        (patient, stay, f"2024-03-{day:02d} {hour:02d}:00", "HR", 80 + hour, "", cohort)
        for patient, stay, day, cohort in stays
        for hour in range(3)
    ]


STAYS = (("a", "1", 1, "2019"), ("b", "2", 2, "2019"), ("c", "3", 4, "2020"))


def table_of(folder: Path, *stays: tuple[str, str, int, str]) -> Path:
    return write_rows(folder / "t.csv", rows(*stays), (*HEADER, "cohort"))


def splits_of(out: Path) -> dict[str, str]:
    frame = read_site_table(out / "sites" / "st-mary.parquet").frame
    return dict(zip(frame["patient_id"], frame["split"], strict=True))


@pytest.mark.parametrize("more", [COLUMN, IN_TIME])
@pytest.mark.parametrize("stay", ['id = "enc"', "gap-hours = 10"])
def test_the_rule_decides(tmp_path: Path, more: str, stay: str) -> None:
    mapping = long_mapping(tmp_path, more=more, stay=stay)
    record = run(mapping, [table_of(tmp_path, *STAYS)], tmp_path / "out")
    assert splits_of(tmp_path / "out") == {"a": "train", "b": "train", "c": "test"}
    info = read_site_table(tmp_path / "out" / "sites" / "st-mary.parquet").info
    assert record["split"]["rule"] == info.split_rule
    # What the coordinator reads has neither a value nor a date.
    assert info.cohort_rule.endswith((", split by a column", ", split in time"))


def test_the_column_may_be_in_the_table_of_stays(tmp_path: Path) -> None:
    bounds = [
        (patient, stay, f"2024-03-{day:02d} 00:00", f"2024-03-{day:02d} 05:00", cohort)
        for patient, stay, day, cohort in STAYS
    ]
    write_rows(tmp_path / "stays.csv", bounds, ("pid", "enc", "from", "to", "cohort"))
    mapping = long_mapping(
        tmp_path,
        stay='table = "stays.csv"\nid = "enc"\nstart = "from"\nend = "to"',
        more=COLUMN,
    )
    table = write_rows(tmp_path / "t.csv", [row[:6] for row in rows(*STAYS)])
    run(mapping, [table], tmp_path / "out")
    assert splits_of(tmp_path / "out") == {"a": "train", "b": "train", "c": "test"}


def test_a_patient_on_both_sides_is_refused_or_whole(tmp_path: Path) -> None:
    back = (*STAYS, ("a", "4", 5, "2020"))
    table = table_of(tmp_path, *back)
    with pytest.raises(SourceError, match=r"1 of 3 patients into several parts.*both-sides"):
        run(long_mapping(tmp_path, more=COLUMN), [table], tmp_path / "out")
    assert not (tmp_path / "out").exists()
    mapping = long_mapping(tmp_path, more=COLUMN + 'both-sides = "first"\n')
    record = run(mapping, [table], tmp_path / "out")
    assert splits_of(tmp_path / "out")["a"] == "train"
    assert record["split"]["patients_on_both_sides"] == 1


def test_without_a_rule_nothing_is_recorded_of_one(tmp_path: Path) -> None:
    record = run(long_mapping(tmp_path), [table_of(tmp_path, *STAYS)], tmp_path / "out")
    assert "split" not in record
    table = (tmp_path / "out" / "sites" / "st-mary.parquet").read_bytes()
    assert b"split_rule" not in table


def test_a_column_that_is_not_there_is_named(tmp_path: Path) -> None:
    mapping = long_mapping(tmp_path, more=COLUMN.replace('"cohort"', '"era"'))
    with pytest.raises(UsageError, match="era"):
        run(mapping, [table_of(tmp_path, *STAYS)], tmp_path / "out")


def test_ingest_and_check_warn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    long_mapping(tmp_path, more=IN_TIME)
    shifted = [
        [*row[:2], row[2].replace("2024-03-04", "2150-03-04"), *row[3:]] for row in rows(*STAYS)
    ]
    table = write_rows(tmp_path / "t.csv", shifted, (*HEADER, "cohort"))
    out = tmp_path / "out"
    given = ["--table", str(table), "--mapping", str(tmp_path / "mapping.toml"), "--out", str(out)]
    assert run_command(app, ["ingest", *given], "client") == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "Split: in time: stays admitted from 2024-03-03 on are test" in shown
    assert "[split] leaves" in shown
    assert "admissions are in 2024 to 2150: these dates were shifted" in shown
    (report,) = check_folder(out)
    codes = [finding.code for finding in report.findings]
    assert {"split-dates-shifted", "split-small-part"} <= set(codes)


def test_time_from_the_start_of_each_stay_has_no_order(tmp_path: Path) -> None:
    """Hours since admission: every stay begins at 0, and no admission is before another."""
    counted = {'zone = "UTC"': 'zone = "UTC"\nformat = "hours"'}
    with pytest.raises(UsageError, match="times count from each admission"):
        long_mapping(tmp_path, more=IN_TIME, replaced=counted)
    assert long_mapping(tmp_path, more=COLUMN, replaced=counted).split
