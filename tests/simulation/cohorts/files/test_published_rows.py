from __future__ import annotations

import gzip
from collections.abc import Mapping
from pathlib import Path

import duckdb
import pytest

from common.console import run
from common.errors import SourceError
from simulation.cli import app
from simulation.cohorts.files import published_rows
from simulation.cohorts.files.published_rows import PUBLISHED_ROWS, RowCounts, Version
from simulation.cohorts.mimic3.schema import mimic3_tables
from tests.simulation.cohorts.eicu.eicu_folder import hours_of_monitor, write_eicu

HEADER = "SUBJECT_ID,GENDER,DOB\n"
PEOPLE = [f"{number},F,2100-01-01 00:00:00\n" for number in range(20)]
STAYS = "ROW_ID,SUBJECT_ID,HADM_ID,ICUSTAY_ID,DBSOURCE,FIRST_CAREUNIT,INTIME,OUTTIME\n"
ROWS = {"icustays": 10, "patients": 20}
LACKS = r"PATIENTS: .*PATIENTS\.csv.* lacks rows: it has 12, MIMIC-III v1.4 has 20, and ICUSTAYS"


def set_versions(patch: pytest.MonkeyPatch, data_set: str, *versions: Version) -> None:
    patch.setattr(published_rows, "PUBLISHED_ROWS", {data_set: versions})
    patch.setattr(published_rows, "_TELLING", 10)


@pytest.fixture
def small_version(monkeypatch: pytest.MonkeyPatch) -> None:
    set_versions(monkeypatch, "MIMIC-III", Version("v1.4", ROWS, certain=True))


def write_stays(folder: Path, rows: int = 10) -> None:
    lines = [f"{n},{n},{n},{n},carevue,MICU,2100-01-01 00:00:00,\n" for n in range(rows)]
    (folder / "ICUSTAYS.csv").write_text(STAYS + "".join(lines))


def load(folder: Path, *tables: str) -> list[str]:
    with mimic3_tables(folder) as source:
        for table in tables:
            source.load(table, "the test")
        return source.warnings()


def counted(data_set: str, counts: Mapping[str, int]) -> list[str]:
    """Return the warnings about files with these numbers of rows."""
    rows = RowCounts(data_set)
    for table, count in counts.items():
        rows.check(table, Path(f"{table}.csv.gz"), count)
    return rows.warnings()


@pytest.mark.usefixtures("small_version")
@pytest.mark.parametrize("order", [("ICUSTAYS", "PATIENTS"), ("PATIENTS", "ICUSTAYS")])
def test_a_csv_cut_at_a_lines_end_is_found(tmp_path: Path, order: tuple[str, str]) -> None:
    write_stays(tmp_path)
    (tmp_path / "PATIENTS.csv").write_text(HEADER + "".join(PEOPLE[:12]))
    with pytest.raises(SourceError, match=LACKS) as error:
        load(tmp_path, *order)
    assert "\n" not in str(error.value)


@pytest.mark.usefixtures("small_version")
def test_a_gzip_cut_between_two_members_is_found(tmp_path: Path) -> None:
    write_stays(tmp_path)
    first = gzip.compress((HEADER + "".join(PEOPLE[:12])).encode())
    second = gzip.compress("".join(PEOPLE[12:]).encode())
    (tmp_path / "PATIENTS.csv.gz").write_bytes(first + second)
    load(tmp_path, "ICUSTAYS", "PATIENTS")
    (tmp_path / "PATIENTS.csv.gz").write_bytes(first)
    with pytest.raises(SourceError, match=LACKS):
        load(tmp_path, "ICUSTAYS", "PATIENTS")


@pytest.mark.usefixtures("small_version")
def test_a_part_of_the_patients_is_no_version(tmp_path: Path) -> None:
    write_stays(tmp_path, rows=9)
    (tmp_path / "PATIENTS.csv").write_text(HEADER + "".join(PEOPLE[:12]))
    assert load(tmp_path, "ICUSTAYS", "PATIENTS") == []


@pytest.mark.usefixtures("small_version")
def test_the_way_through_that_the_error_names(tmp_path: Path) -> None:
    write_stays(tmp_path)
    path = tmp_path / "PATIENTS.csv"
    path.write_text(HEADER + "".join(PEOPLE[:12]))
    with pytest.raises(SourceError, match=r"replace it by PATIENTS\.parquet"):
        load(tmp_path, "ICUSTAYS", "PATIENTS")
    # The statement of docs/explanation/cohort.md.
    query = f"FROM read_csv('{path}', all_varchar = true)"
    duckdb.execute(f"COPY ({query}) TO '{path.with_suffix('.parquet')}'")
    assert load(tmp_path, "ICUSTAYS", "PATIENTS") == []


def test_numbers_that_are_not_certain_give_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = {"vitalperiodic": 14, "patient": 2}
    set_versions(monkeypatch, "eICU-CRD", Version("v2.0", rows, certain=False))
    source = tmp_path / "eicu"
    source.mkdir()
    write_eicu(source, periodic=hours_of_monitor(1, 14))
    arguments = ["--eicu-dir", str(source), "--out", str(tmp_path / "out")]
    assert run(app, ["prepare", "eicu", *arguments, "--sepsis", "none"]) == 0
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "may lack rows" in line]
    assert line.startswith("warning: patient: ")
    assert "it has 1, eICU-CRD v2.0 has 2, and vitalPeriodic here has all rows" in line


def test_v31_does_not_refuse_a_v30_with_the_same_stays() -> None:
    (line,) = counted("MIMIC-IV", {"icustays": 94_458, "chartevents": 400_000_000})
    assert "432,997,491" in line


def test_a_folder_of_two_versions_lacks_nothing() -> None:
    assert counted("MIMIC-IV", {"icustays": 73_141, "chartevents": 313_645_063}) == []


@pytest.mark.parametrize(
    ("data_set", "version"),
    [(name, version) for name, versions in PUBLISHED_ROWS.items() for version in versions],
    ids=lambda value: value if isinstance(value, str) else value.name,
)
def test_a_whole_version_passes_and_a_cut_one_does_not(data_set: str, version: Version) -> None:
    assert counted(data_set, version.rows) == []
    cut = {**version.rows, max(version.rows, key=lambda table: version.rows[table]): 11}
    if version.certain:
        with pytest.raises(SourceError, match=version.name):
            counted(data_set, cut)
    else:
        assert version.name in counted(data_set, cut)[0]
