from __future__ import annotations

import csv
import gzip
import hashlib
import io
import tempfile
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from common.data.streams import csv_stream
from common.data.streams.csv_stream import CsvStream
from common.errors import SourceError, UsageError
from simulation.cohorts.mimic3.schema import TABLE_COLUMNS, mimic3_tables

PATIENTS = (
    "ROW_ID,SUBJECT_ID,GENDER,DOB\n1,10006,F,2094-03-05 00:00:00\n2,10011,M,1800-06-05 00:00:00\n"
)
DIAGNOSES = 'SUBJECT_ID,HADM_ID,SEQ_NUM,ICD9_CODE\n1,2,1,"0389"\n1,2,2,"99592"\n1,2,,""\n'


def rows_of(folder: Path, table: str, where: str | None = None) -> list[tuple[object, ...]]:
    with mimic3_tables(folder) as tables:
        name = tables.load(table, "the test", where=where)
        return tables.connection.execute(f"SELECT * FROM {name} ORDER BY ALL").fetchall()


def as_csv(folder: Path, table: str, text: str) -> None:
    (folder / f"{table}.csv").write_text(text)


def as_gzip(folder: Path, table: str, text: str) -> None:
    (folder / f"{table}.csv.gz").write_bytes(gzip.compress(text.encode()))


def as_parquet(folder: Path, table: str, text: str) -> None:
    header, *rows = csv.reader(io.StringIO(text))
    columns = {
        name: pa.array([row[i] or None for row in rows], pa.string())
        for i, name in enumerate(header)
    }
    pq.write_table(pa.table(columns), folder / f"{table}.parquet")


def in_lower_case(folder: Path, table: str, text: str) -> None:
    header, rest = text.split("\n", 1)
    as_csv(folder, table.lower(), f"{header.lower()}\n{rest}")


def in_another_order(folder: Path, table: str, text: str) -> None:
    out = io.StringIO()
    csv.writer(out).writerows(row[::-1] for row in csv.reader(io.StringIO(text)))
    as_gzip(folder, table, out.getvalue())


FORMS: list[Callable[[Path, str, str], None]] = [
    as_csv,
    as_gzip,
    as_parquet,
    in_lower_case,
    in_another_order,
]


@pytest.mark.parametrize("write", FORMS, ids=lambda form: form.__name__)
def test_every_form_of_a_file_gives_the_same_typed_table(
    tmp_path: Path, write: Callable[[Path, str, str], None]
) -> None:
    write(tmp_path, "PATIENTS", PATIENTS)
    with mimic3_tables(tmp_path) as tables:
        name = tables.load("PATIENTS", "the test")
        types = tables.connection.execute(f"DESCRIBE {name}").fetchall()
        rows = tables.connection.execute(
            f"SELECT subject_id, gender, dob::VARCHAR FROM {name} ORDER BY 1"
        ).fetchall()

    assert name == "patients"
    assert {row[0]: row[1] for row in types} == TABLE_COLUMNS["PATIENTS"]
    # A date of birth 300 years back must not overflow.
    assert rows == [(10006, "F", "2094-03-05 00:00:00"), (10011, "M", "1800-06-05 00:00:00")]


@pytest.mark.parametrize("write", FORMS, ids=lambda form: form.__name__)
def test_icd_codes_keep_leading_zeros_and_empty_fields_are_null(
    tmp_path: Path, write: Callable[[Path, str, str], None]
) -> None:
    write(tmp_path, "DIAGNOSES_ICD", DIAGNOSES)
    assert rows_of(tmp_path, "DIAGNOSES_ICD") == [
        (1, 2, 1, "0389"),
        (1, 2, 2, "99592"),
        (1, 2, None, None),
    ]


def test_icd_codes_as_numbers_are_refused(tmp_path: Path) -> None:
    columns = {name: pa.array([389]) for name in TABLE_COLUMNS["DIAGNOSES_ICD"]}
    pq.write_table(pa.table(columns), tmp_path / "DIAGNOSES_ICD.parquet")
    with pytest.raises(SourceError, match=r"DIAGNOSES_ICD.*icd9_code as int64.*leading zeros"):
        rows_of(tmp_path, "DIAGNOSES_ICD")


def test_quoted_fields_hold_commas_quotes_and_line_breaks(tmp_path: Path) -> None:
    text = 'SUBJECT_ID,GENDER,DOB\r\n1,"a,""b""\nc",2100-01-01 00:00:00\r\n2,"",\r\n'
    (tmp_path / "PATIENTS.csv").write_text(text, newline="")
    assert [row[:2] for row in rows_of(tmp_path, "PATIENTS")] == [(1, 'a,"b"\nc'), (2, None)]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    fields=st.lists(
        st.lists(st.text(alphabet='ab,"\n é', max_size=6), min_size=2, max_size=2), max_size=20
    ),
    block_bytes=st.integers(1, 64),
    zipped=st.booleans(),
)
def test_blocks_are_cut_between_records_only(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    fields: list[list[str]],
    block_bytes: int,
    zipped: bool,
) -> None:
    # The first column is a number, so that no record is an empty line, which both readers skip.
    rows = [[str(number), *texts] for number, texts in enumerate(fields)]
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows([["N", "A", "B"], *rows])
    path = tmp_path / ("t.csv.gz" if zipped else "t.csv")
    data = out.getvalue().encode()
    path.write_bytes(gzip.compress(data) if zipped else data)
    monkeypatch.setattr(csv_stream, "CSV_BLOCK_BYTES", block_bytes)

    stream = CsvStream(path, "T", {"n": pa.int64(), "b": pa.string(), "a": pa.string()})
    read = [tuple(row.values()) for batch in stream.batches() for row in batch.to_pylist()]

    assert read == [(int(n), b or None, a or None) for n, a, b in rows]
    assert stream.digest()["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_quote_that_is_never_closed_is_refused(tmp_path: Path) -> None:
    as_csv(tmp_path, "PATIENTS", 'SUBJECT_ID,GENDER,DOB\n1,"F,\n2,M,\n')
    with pytest.raises(SourceError, match=r"PATIENTS\.csv"):
        rows_of(tmp_path, "PATIENTS")


# Within the header line, within the content, within the checksum, within the length after it.
@pytest.mark.parametrize("kept", [5, 15, 0.5, 0.99, -6, -1])
def test_a_truncated_gzip_is_refused(tmp_path: Path, kept: float) -> None:
    rows = "".join(f"{n},{n * 7919 % 10007},F,2100-01-01 00:00:00\n" for n in range(50_000))
    data = gzip.compress(f"ROW_ID,SUBJECT_ID,GENDER,DOB\n{rows}".encode())
    end = int(kept * len(data)) if 0 < kept < 1 else int(kept)
    (tmp_path / "PATIENTS.csv.gz").write_bytes(data[:end])
    with pytest.raises(SourceError, match=r"PATIENTS.*PATIENTS\.csv\.gz is damaged.*cut off"):
        rows_of(tmp_path, "PATIENTS")


@pytest.mark.parametrize(
    ("damaged", "said"), [(b"", "is damaged"), (b"not gzip at all", "is not a gzip file")]
)
def test_what_is_not_gzip_is_refused(tmp_path: Path, damaged: bytes, said: str) -> None:
    (tmp_path / "PATIENTS.csv.gz").write_bytes(damaged)
    with pytest.raises(SourceError, match=rf"PATIENTS\.csv\.gz {said}"):
        rows_of(tmp_path, "PATIENTS")


def test_a_wrong_checksum_is_refused(tmp_path: Path) -> None:
    data = bytearray(gzip.compress(PATIENTS.encode()))
    data[-6] ^= 1
    (tmp_path / "PATIENTS.csv.gz").write_bytes(data)
    with pytest.raises(SourceError, match=r"PATIENTS\.csv\.gz is damaged"):
        rows_of(tmp_path, "PATIENTS")


def test_what_is_not_parquet_is_refused(tmp_path: Path) -> None:
    (tmp_path / "PATIENTS.parquet").write_bytes(b"no")
    with pytest.raises(SourceError, match=r"PATIENTS\.parquet cannot be read as Parquet"):
        rows_of(tmp_path, "PATIENTS")


@pytest.mark.parametrize("write", [as_csv, as_gzip, as_parquet], ids=lambda form: form.__name__)
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("SUBJECT_ID,SEX,DOB\n1,F,\n", "lacks the column GENDER; it has SUBJECT_ID, SEX, DOB"),
        ("SUBJECT_ID,GENDER,DOB\n1,F,yesterday\n", "yesterday.*column dob"),
        ("SUBJECT_ID,GENDER,DOB\nx1,F,\n", "x1.*column subject_id"),
    ],
)
def test_a_missing_column_or_a_bad_field_is_one_clear_line(
    tmp_path: Path, write: Callable[[Path, str, str], None], text: str, message: str
) -> None:
    write(tmp_path, "PATIENTS", text)
    with pytest.raises(SourceError, match=rf"^PATIENTS: .*PATIENTS\.\S+ .*{message}") as caught:
        rows_of(tmp_path, "PATIENTS")
    assert "\n" not in str(caught.value)


def test_a_column_that_stands_twice_is_refused(tmp_path: Path) -> None:
    as_csv(tmp_path, "PATIENTS", "SUBJECT_ID,GENDER,DOB,dob\n1,F,,\n")
    with pytest.raises(SourceError, match="the column DOB twice"):
        rows_of(tmp_path, "PATIENTS")


def test_a_line_with_too_few_fields_is_refused(tmp_path: Path) -> None:
    as_csv(tmp_path, "PATIENTS", "SUBJECT_ID,GENDER,DOB\n1,F,\n2,M\n")
    with pytest.raises(SourceError, match=r"PATIENTS\.csv has a line that cannot be read"):
        rows_of(tmp_path, "PATIENTS")


def test_a_table_without_rows_is_an_empty_table(tmp_path: Path) -> None:
    as_csv(tmp_path, "PATIENTS", "SUBJECT_ID,GENDER,DOB")
    assert rows_of(tmp_path, "PATIENTS") == []


def test_a_missing_table_is_named_with_what_needs_it(tmp_path: Path) -> None:
    with mimic3_tables(tmp_path) as tables:
        assert not tables.has("LABEVENTS")
        with pytest.raises(SourceError, match=r"LABEVENTS, needed for SOFA;.*LABEVENTS\.csv\.gz"):
            tables.load("LABEVENTS", "SOFA")


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        SourceError, match="absent does not exist; give the folder of the MIMIC-III"
    ):
        mimic3_tables(tmp_path / "absent")


def test_a_memory_bound_of_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="must be positive, got 0 GB"):
        mimic3_tables(tmp_path, memory_gb=0)


def test_the_compressed_file_goes_before_a_perhaps_half_unpacked_one(tmp_path: Path) -> None:
    as_gzip(tmp_path, "PATIENTS", PATIENTS)
    as_csv(tmp_path, "PATIENTS", PATIENTS[: PATIENTS.index("2,10011")])
    assert len(rows_of(tmp_path, "PATIENTS")) == 2


def test_a_condition_keeps_only_its_rows_and_must_not_change(tmp_path: Path) -> None:
    as_csv(tmp_path, "PATIENTS", PATIENTS)
    with mimic3_tables(tmp_path) as tables:
        name = tables.load("PATIENTS", "the test", where="gender = 'F'")
        tables.load("PATIENTS", "the test", where="gender = 'F'")
        rows = tables.connection.execute(f"SELECT subject_id FROM {name}").fetchall()
        with pytest.raises(ValueError, match="another condition"):
            tables.load("PATIENTS", "the test")
    assert rows == [(10006,)]


@pytest.mark.parametrize("write", [as_csv, as_gzip, as_parquet], ids=lambda form: form.__name__)
def test_digests_are_those_of_the_files_read(
    tmp_path: Path, write: Callable[[Path, str, str], None]
) -> None:
    write(tmp_path, "PATIENTS", PATIENTS)
    write(tmp_path, "DIAGNOSES_ICD", DIAGNOSES)
    with mimic3_tables(tmp_path) as tables:
        tables.load("PATIENTS", "the test")
        digests = tables.digests()
    (path,) = tmp_path.glob("PATIENTS*")
    data = path.read_bytes()
    sha256 = hashlib.sha256(data).hexdigest()
    assert digests == {"PATIENTS": {"file": path.name, "bytes": len(data), "sha256": sha256}}


def test_the_scratch_folder_goes_also_after_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    as_csv(tmp_path, "PATIENTS", PATIENTS)

    def load_and_fail() -> None:
        with mimic3_tables(tmp_path) as tables:
            tables.load("PATIENTS", "the test")
            assert any(scratch.iterdir())
            tables.load("LABEVENTS", "the test")

    with pytest.raises(SourceError):
        load_and_fail()
    assert not any(scratch.iterdir())
