"""The synthetic folder: its files, its bytes, and every trap that it promises."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest

from common.errors import CohortError, UsageError
from simulation.cohorts import synthetic
from simulation.cohorts.synthetic import write_synthetic_mimic
from simulation.cohorts.synthetic.tables import MIMIC_COLUMNS

STAYS = 150

# One query a trap: each has to count at least one row.
TRAPS = {
    "carevue": "FROM ICUSTAYS WHERE DBSOURCE = 'carevue'",
    "metavision": "FROM ICUSTAYS WHERE DBSOURCE = 'metavision'",
    "both systems": "FROM ICUSTAYS WHERE DBSOURCE = 'both'",
    "newborns": "FROM ICUSTAYS WHERE FIRST_CAREUNIT = 'NICU'",
    "empty OUTTIME": "FROM ICUSTAYS WHERE OUTTIME IS NULL",
    "short stay": "FROM ICUSTAYS WHERE LOS < 0.5",
    "minor": "FROM ICUSTAYS JOIN PATIENTS USING (SUBJECT_ID) "
    "WHERE INTIME < DOB + INTERVAL 18 YEAR AND INTIME > DOB + INTERVAL 14 YEAR",
    "over 89": "FROM ICUSTAYS JOIN PATIENTS USING (SUBJECT_ID) "
    "WHERE INTIME >= DOB + INTERVAL 299 YEAR AND year(DOB) < 1900",
    "return within the admission": "FROM (SELECT 1 FROM ICUSTAYS GROUP BY HADM_ID "
    "HAVING count(DISTINCT FIRST_CAREUNIT) > 1)",
    "return in a later admission": "FROM (SELECT 1 FROM ICUSTAYS GROUP BY SUBJECT_ID "
    "HAVING count(DISTINCT HADM_ID) > 1 AND count(DISTINCT FIRST_CAREUNIT) > 1)",
    "died": "FROM ADMISSIONS WHERE HOSPITAL_EXPIRE_FLAG = 1 AND DEATHTIME = DISCHTIME",
    "stay without any sepsis code": "FROM ICUSTAYS ANTI JOIN (SELECT HADM_ID FROM DIAGNOSES_ICD "
    "WHERE ICD9_CODE IN ('99592', '78552', '99591', '0389', '486')) USING (HADM_ID)",
    "code with a leading zero": "FROM DIAGNOSES_ICD WHERE ICD9_CODE = '0389'",
    "shock coded, not severe sepsis": "FROM (SELECT HADM_ID FROM DIAGNOSES_ICD GROUP BY 1 HAVING "
    "bool_or(ICD9_CODE = '78552') AND NOT bool_or(ICD9_CODE = '99592'))",
    "ventilation coded": "FROM PROCEDURES_ICD WHERE ICD9_CODE IN ('9671', '9672')",
    "untimed culture": "FROM MICROBIOLOGYEVENTS WHERE CHARTTIME IS NULL AND CHARTDATE IS NOT NULL",
    "positive culture": "FROM MICROBIOLOGYEVENTS WHERE ORG_NAME IS NOT NULL",
    "antibiotic": "FROM PRESCRIPTIONS WHERE DRUG = 'Vancomycin HCl' AND ROUTE = 'IV'",
    "local antibiotic": "FROM PRESCRIPTIONS WHERE ROUTE = 'TP'",
    "prescription without stay": "FROM PRESCRIPTIONS WHERE ICUSTAY_ID IS NULL",
    "laboratory text": "FROM LABEVENTS WHERE VALUENUM IS NULL AND VALUE = 'ERROR'",
    "laboratory 999999": "FROM LABEVENTS WHERE VALUENUM = 999999",
    "sample without admission": "FROM LABEVENTS WHERE HADM_ID IS NULL",
    "venous gas": "FROM LABEVENTS WHERE ITEMID = 50800 AND VALUE = 'VEN'",
    "rewritten infusion": "FROM INPUTEVENTS_MV "
    "WHERE STATUSDESCRIPTION = 'Rewritten' AND ITEMID = 221906",
    "norepinephrine by weight": "FROM INPUTEVENTS_CV WHERE ITEMID = 30120 AND RATE > 0",
    "norepinephrine, plain": "FROM INPUTEVENTS_CV WHERE ITEMID = 30047 AND RATE > 1",
    "stopped drip": "FROM INPUTEVENTS_CV WHERE STOPPED = 'D/C''d' AND RATE = 0",
    "urine": "FROM OUTPUTEVENTS WHERE VALUE > 0",
    "ventilation": "FROM PROCEDUREEVENTS_MV WHERE ITEMID = 225792 AND ENDTIME > STARTTIME",
    "error mark": "FROM CHARTEVENTS WHERE ERROR = 1 AND VALUENUM > 60",
    "text": "FROM CHARTEVENTS WHERE ITEMID IN (211, 220045) AND VALUENUM IS NULL AND VALUE > ''",
    "impossible heart rate": "FROM CHARTEVENTS WHERE ITEMID IN (211, 220045) "
    "AND (VALUENUM <= 0 OR VALUENUM >= 300)",
    "°F under °C": "FROM CHARTEVENTS WHERE ITEMID IN (676, 223762) AND VALUENUM BETWEEN 90 AND 110",
    "°C under °F": "FROM CHARTEVENTS WHERE ITEMID IN (678, 223761) AND VALUENUM BETWEEN 33 AND 42",
    "empty ICUSTAY_ID": "FROM CHARTEVENTS WHERE ICUSTAY_ID IS NULL",
    "exact duplicate": "FROM (SELECT * EXCLUDE ROW_ID FROM CHARTEVENTS "
    "GROUP BY ALL HAVING count(*) > 1)",
    "outside the stay": "FROM CHARTEVENTS c JOIN ICUSTAYS i USING (SUBJECT_ID, HADM_ID) "
    "WHERE c.CHARTTIME < i.INTIME AND c.ICUSTAY_ID IS NULL",
    "coma scale": "FROM CHARTEVENTS WHERE ITEMID = 198 AND VALUENUM BETWEEN 3 AND 15",
    "tube": "FROM CHARTEVENTS WHERE VALUE IN ('1.0 ET/Trach', 'No Response-ETT')",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hospital") / "tables"
    write_synthetic_mimic(folder, stays=STAYS, seed=3)
    return folder


@pytest.fixture(scope="module")
def tables(folder: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as connection:
        for table in MIMIC_COLUMNS:
            connection.execute(
                f"CREATE TABLE {table} AS SELECT * FROM read_csv('{folder}/{table}.csv.gz')"
            )
        yield connection


def count(tables: duckdb.DuckDBPyConnection, query: str) -> int:
    row = tables.execute(f"SELECT count(*) {query}").fetchone()
    assert row is not None
    return int(row[0])


def test_equal_seeds_give_equal_bytes_and_other_seeds_do_not(folder: Path, tmp_path: Path) -> None:
    write_synthetic_mimic(tmp_path / "again", stays=STAYS, seed=3)
    write_synthetic_mimic(tmp_path / "other", stays=STAYS, seed=4)

    for table in sorted(MIMIC_COLUMNS):
        name = f"{table}.csv.gz"
        assert (tmp_path / "again" / name).read_bytes() == (folder / name).read_bytes(), table
        if table != "D_ITEMS":
            assert (tmp_path / "other" / name).read_bytes() != (folder / name).read_bytes(), table


def test_folder_holds_every_table_with_its_header_and_rows(folder: Path) -> None:
    assert sorted(path.name for path in folder.iterdir()) == [
        f"{table}.csv.gz" for table in sorted(MIMIC_COLUMNS)
    ]
    for table, columns in MIMIC_COLUMNS.items():
        with gzip.open(folder / f"{table}.csv.gz", "rt") as file:
            assert file.readline() == ",".join(f'"{column}"' for column in columns) + "\n"
            assert file.readline().startswith("1,"), f"{table} has no first row"


@pytest.mark.parametrize("table", sorted(MIMIC_COLUMNS))
def test_columns_are_those_of_the_published_tables(table: str, shared_data: Path) -> None:
    with gzip.open(shared_data / "mimic3-demo-grafted" / f"{table}.csv.gz", "rt") as file:
        published = file.readline().strip().replace('"', "").split(",")
    assert list(MIMIC_COLUMNS[table]) == published


@pytest.mark.parametrize("trap", TRAPS)
def test_trap_is_present(tables: duckdb.DuckDBPyConnection, trap: str) -> None:
    assert count(tables, TRAPS[trap]) > 0


@pytest.mark.parametrize("item", [51, 455, 6701, 442, 220050, 220179, 225309, 676, 678, 223761])
def test_vitals_are_charted_under_every_kind_of_item(
    tables: duckdb.DuckDBPyConnection, item: int
) -> None:
    assert count(tables, f"FROM CHARTEVENTS WHERE ITEMID = {item}") > 0
    assert count(tables, f"FROM D_ITEMS WHERE ITEMID = {item}") == 1


def test_number_of_stays_is_exact_across_blocks(tmp_path: Path) -> None:
    write_synthetic_mimic(tmp_path / "tables", stays=synthetic._BLOCK + 1)
    stays = duckdb.execute(
        "SELECT count(*), count(DISTINCT ICUSTAY_ID), count(DISTINCT FIRST_CAREUNIT) "
        f"FROM read_csv('{tmp_path}/tables/ICUSTAYS.csv.gz')"
    ).fetchone()
    assert stays == (synthetic._BLOCK + 1, synthetic._BLOCK + 1, 6)


def test_tables_refer_to_one_another(tables: duckdb.DuckDBPyConnection) -> None:
    for table in sorted(set(MIMIC_COLUMNS) - {"D_ITEMS"}):
        orphans = f"FROM {table} ANTI JOIN PATIENTS USING (SUBJECT_ID)"
        assert count(tables, orphans) == 0, table
    assert count(tables, "FROM ICUSTAYS ANTI JOIN ADMISSIONS USING (SUBJECT_ID, HADM_ID)") == 0
    assert count(tables, "FROM CHARTEVENTS ANTI JOIN D_ITEMS USING (ITEMID)") == 0
    assert (
        count(tables, "FROM (SELECT 1 FROM CHARTEVENTS GROUP BY ROW_ID HAVING count(*) > 1)") == 0
    )


def test_times_are_in_order(tables: duckdb.DuckDBPyConnection) -> None:
    assert count(tables, "FROM ICUSTAYS WHERE OUTTIME <= INTIME") == 0
    assert count(tables, "FROM INPUTEVENTS_MV WHERE ENDTIME <= STARTTIME") == 0
    outside = "WHERE INTIME < ADMITTIME OR OUTTIME > DISCHTIME"
    assert count(tables, f"FROM ICUSTAYS JOIN ADMISSIONS USING (HADM_ID) {outside}") == 0
    overlap = (
        "FROM ICUSTAYS a JOIN ICUSTAYS b USING (SUBJECT_ID) WHERE a.ICUSTAY_ID <> b.ICUSTAY_ID "
        "AND a.INTIME <= b.INTIME AND b.INTIME < a.OUTTIME"
    )
    assert count(tables, overlap) == 0
    posthumous = (
        "FROM ICUSTAYS JOIN PATIENTS USING (SUBJECT_ID) WHERE INTIME > DOD + INTERVAL 1 DAY"
    )
    assert count(tables, posthumous) == 0


def test_error_marks_are_metavisions_alone(tables: duckdb.DuckDBPyConnection) -> None:
    assert count(tables, "FROM CHARTEVENTS WHERE ITEMID < 220000 AND ERROR IS NOT NULL") == 0
    assert count(tables, "FROM CHARTEVENTS WHERE ITEMID >= 220000 AND ERROR IS NULL") == 0


@pytest.mark.parametrize(("stays", "seed", "named"), [(10, 0, "--stays"), (100, -1, "--seed")])
def test_arguments_out_of_range_are_refused(
    tmp_path: Path, stays: int, seed: int, named: str
) -> None:
    with pytest.raises(UsageError, match=named):
        write_synthetic_mimic(tmp_path / "tables", stays=stays, seed=seed)
    assert not list(tmp_path.glob("**/*.gz"))


def test_folder_that_holds_something_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("keep me")
    with pytest.raises(CohortError, match="not an empty folder"):
        write_synthetic_mimic(tmp_path, stays=60)
    assert [path.name for path in tmp_path.iterdir() if path.suffix] == ["mine.txt"]


def test_failure_midway_leaves_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(synthetic, "write_cultures", fail)
    with pytest.raises(OSError, match="no space left"):
        write_synthetic_mimic(tmp_path / "hospital" / "tables", stays=60)
    assert not list((tmp_path / "hospital").iterdir())


def test_a_monitor_adds_readings_and_changes_no_other_event(tmp_path: Path) -> None:
    charts = {}
    for name, minutes in (("hourly", 0), ("monitor", 10)):
        write_synthetic_mimic(tmp_path / name, stays=60, seed=3, monitor_minutes=minutes)
        with gzip.open(tmp_path / name / "CHARTEVENTS.csv.gz", "rt") as file:
            # Without ROW_ID, which numbers the events of the file.
            charts[name] = {line.partition(",")[2] for line in file}
    assert charts["hourly"] < charts["monitor"]
    assert len(charts["monitor"]) > 4 * len(charts["hourly"])
    other = "LABEVENTS.csv.gz"
    assert (tmp_path / "hourly" / other).read_bytes() == (tmp_path / "monitor" / other).read_bytes()
