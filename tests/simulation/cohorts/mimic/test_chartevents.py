from __future__ import annotations

import gzip
import hashlib
from pathlib import Path

import pandas as pd
import pytest

from common.data.streams import csv_stream
from common.errors import SourceError
from simulation.cohorts.mimic.chartevents import stream_chartevents
from simulation.cohorts.mimic3.schema import TABLE_COLUMNS, mimic3_tables

TYPES = {
    {"icustay_id": "stay_id"}.get(name, name): kind
    for name, kind in TABLE_COLUMNS["CHARTEVENTS"].items()
}
HEADER = "ROW_ID,SUBJECT_ID,HADM_ID,ICUSTAY_ID,ITEMID,CHARTTIME,VALUE,VALUENUM,VALUEUOM,ERROR"
LINES = [
    '1,7,70,700,211,2100-01-01 00:00:00,"81",81,"bpm",0',
    '2,7,70,,223849,2100-01-01 00:05:00,"CMV/ASSIST, ""auto""\nflow",,,',
    '3,7,70,700,999,2100-01-01 00:10:00,"1",1,,0',
    '4,8,80,800,211,2100-01-01 00:15:00,"82",82,"bpm",1',
    '5,9,90,900,211,2100-01-01 00:20:00,"83",83,"bpm",0',
]
ITEMS = [223849, 211]
SUBJECTS = [8, 7]


def write(folder: Path, form: str, lines: list[str] = LINES, header: str = HEADER) -> Path:
    text = "\n".join([header, *lines]) + "\n"
    path = folder / f"CHARTEVENTS.{form}"
    if form == "csv":
        path.write_text(text)
    elif form == "csv.gz":
        path.write_bytes(gzip.compress(text.encode()))
    else:
        (folder / "as.csv").write_text(text)
        # As pandas writes it: ids with gaps are floating-point numbers, times are timestamps.
        frame = pd.read_csv(folder / "as.csv", parse_dates=["CHARTTIME"], dtype={"VALUE": str})
        frame.to_parquet(path, row_group_size=2)
    return path


def read(folder: Path, *, with_text: bool) -> pd.DataFrame:
    with mimic3_tables(folder) as tables:
        name = stream_chartevents(tables, ITEMS, SUBJECTS, with_text=with_text)
        frame = tables.connection.execute(f"SELECT * FROM {name} ORDER BY charttime").df()
        types = dict(
            tables.connection.execute(
                f"SELECT column_name, column_type FROM (DESCRIBE {name})"
            ).fetchall()
        )
    assert types == {column: TYPES[column] for column in frame.columns}
    return frame


@pytest.mark.parametrize("form", ["csv", "csv.gz", "parquet"])
def test_only_wanted_items_of_wanted_patients_stay(tmp_path: Path, form: str) -> None:
    write(tmp_path, form)
    frame = read(tmp_path, with_text=False)
    assert list(frame.columns) == ["subject_id", "itemid", "charttime", "valuenum", "error"]
    assert frame["subject_id"].tolist() == [7, 7, 8]
    assert frame["itemid"].tolist() == [211, 223849, 211]
    assert frame["charttime"].dt.minute.tolist() == [0, 5, 15]
    assert frame["valuenum"].fillna(-1).tolist() == [81, -1, 82]
    assert frame["error"].fillna(-1).tolist() == [0, -1, 1]


@pytest.mark.parametrize("form", ["csv", "csv.gz", "parquet"])
def test_with_text_all_columns_stay(tmp_path: Path, form: str) -> None:
    write(tmp_path, form)
    frame = read(tmp_path, with_text=True)
    assert list(frame.columns) == list(TYPES)
    assert frame["value"].tolist() == ["81", 'CMV/ASSIST, "auto"\nflow', "82"]
    assert frame["stay_id"].fillna(-1).tolist() == [700, -1, 800]
    assert frame["valueuom"].fillna("").tolist() == ["bpm", "", "bpm"]


def test_a_second_pass_replaces_the_first(tmp_path: Path) -> None:
    write(tmp_path, "csv")
    with mimic3_tables(tmp_path) as tables:
        stream_chartevents(tables, ITEMS, SUBJECTS, with_text=True)
        name = stream_chartevents(tables, [211], [9], with_text=False)
        rows = tables.connection.execute(f"SELECT subject_id, valuenum FROM {name}").fetchall()
    assert rows == [(9, 83.0)]


@pytest.mark.parametrize(("items", "subjects"), [([], SUBJECTS), (ITEMS, [])])
def test_nothing_wanted_gives_an_empty_table(
    tmp_path: Path, items: list[int], subjects: list[int]
) -> None:
    write(tmp_path, "csv.gz")
    with mimic3_tables(tmp_path) as tables:
        name = stream_chartevents(tables, items, subjects, with_text=False)
        assert tables.connection.execute(f"SELECT * FROM {name}").fetchall() == []


@pytest.mark.parametrize("form", ["csv", "csv.gz", "parquet"])
def test_progress_rises_to_the_size_of_the_file(tmp_path: Path, form: str) -> None:
    path = write(tmp_path, form, LINES[:1] * 5000)
    calls: list[tuple[int, int]] = []
    with mimic3_tables(tmp_path) as tables:
        stream_chartevents(
            tables,
            ITEMS,
            SUBJECTS,
            with_text=False,
            progress=lambda done, total: calls.append((done, total)),
        )
        digest = tables.digests()["CHARTEVENTS"]
    size = path.stat().st_size
    assert [done for done, _ in calls] == sorted(done for done, _ in calls)
    assert calls[-1] == (size, size)
    assert {total for _, total in calls} == {size}
    assert digest["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()


def test_many_small_blocks_lose_no_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csv_stream, "CSV_BLOCK_BYTES", 1000)
    lines = [f"{n},7,70,700,211,2100-01-01 00:00:00,{n},{n},bpm,0" for n in range(5000)]
    write(tmp_path, "csv.gz", lines)
    with mimic3_tables(tmp_path) as tables:
        name = stream_chartevents(tables, [211], [7], with_text=False)
        query = f"SELECT count(DISTINCT valuenum), sum(valuenum)::BIGINT FROM {name}"
        assert tables.connection.execute(query).fetchall() == [(5000, sum(range(5000)))]


@pytest.mark.parametrize("share", [0.001, 0.5, 0.999])
def test_a_truncated_gzip_is_refused(tmp_path: Path, share: float) -> None:
    lines = [f"{n},7,70,700,211,2100-01-01 00:00:00,{n},{n},bpm,0" for n in range(200_000)]
    path = write(tmp_path, "csv.gz", lines)
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(SourceError, match=r"CHARTEVENTS\.csv\.gz is damaged.*cut off"):
        read(tmp_path, with_text=False)


@pytest.mark.parametrize("form", ["csv", "csv.gz", "parquet"])
def test_a_missing_column_is_refused(tmp_path: Path, form: str) -> None:
    write(tmp_path, form, header=HEADER.replace("VALUENUM", "NUMBER"))
    with pytest.raises(SourceError, match=r"CHARTEVENTS: .*lacks the column VALUENUM"):
        read(tmp_path, with_text=False)


def test_a_missing_table_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no table CHARTEVENTS, needed for the vital signs"):
        read(tmp_path, with_text=False)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("6,7,70,700,211,2100-13-01 00:00:00,81,81,bpm,0", "2100-13-01.*column charttime"),
        ("6,7,70,700,211,2100-01-01 00:00:00,81,8l,bpm,0", "8l.*column valuenum"),
        ("6,7,70,700,pulse,2100-01-01 00:00:00,81,81,bpm,0", "column ITEMID.*pulse"),
    ],
)
def test_a_bad_field_of_a_kept_row_is_one_clear_line(
    tmp_path: Path, line: str, message: str
) -> None:
    write(tmp_path, "csv", [*LINES, line])
    with pytest.raises(SourceError, match=rf"CHARTEVENTS: .*CHARTEVENTS\.csv .*{message}"):
        read(tmp_path, with_text=False)


def test_a_bad_field_of_another_patient_does_not_matter(tmp_path: Path) -> None:
    write(tmp_path, "csv", [*LINES, "6,55,70,700,211,someday,81,8l,bpm,0"])
    assert len(read(tmp_path, with_text=False)) == 3
