"""Workbooks: typed cells, sheets, headers, serial dates, and what cannot be read."""

from __future__ import annotations

import sys
import zipfile
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import openpyxl
import pytest

from common.data.site_table import read_site_table
from common.errors import FedvitalsError, SourceError
from tests.client.ingest.hospital import HEADER, long_mapping, run, write_rows

DAY = datetime(2024, 3, 1)  # noqa: DTZ001  (as Excel holds it)
TIMES = [DAY + timedelta(hours=10, minutes=35), DAY + timedelta(hours=13, minutes=5)]
VALUES = ["HR", "T"]


def rows_of(times: list[Any]) -> list[list[Any]]:
    """Two patients, ids as numbers, values as numbers."""
    return [
        [pid, 7_000_000_000 + pid, at, what, value, unit]
        for pid in (17, 18)
        for at in times
        for what, value, unit in (("HR", 88, None), ("T", 36.6, "degC"))
    ]


def write_book(path: Path, sheets: dict[str, list[list[Any]]]) -> Path:
    book = openpyxl.Workbook()
    book.remove(book.active)
    for name, rows in sheets.items():
        sheet = book.create_sheet(name)
        for row in rows:
            sheet.append(row)
    book.save(path)
    return path


def site_table(folder: Path) -> bytes:
    return (folder / "sites" / "st-mary.parquet").read_bytes()


@pytest.fixture
def expected(tmp_path: Path) -> bytes:
    rows = [["" if cell is None else str(cell) for cell in row] for row in rows_of(TIMES)]
    run(long_mapping(tmp_path), [write_rows(tmp_path / "e.csv", rows)], tmp_path / "expected")
    return site_table(tmp_path / "expected")


def serial(at: datetime) -> float:
    return (at - datetime(1899, 12, 30)) / timedelta(days=1)  # noqa: DTZ001


BOOKS: dict[str, tuple[list[list[Any]], str]] = {
    "dates": (rows_of(TIMES), ""),
    "texts": (rows_of([str(at) for at in TIMES]), ""),
    "hidden serial dates": (rows_of([serial(at) for at in TIMES]), ""),
    "dates, some hidden": (rows_of([TIMES[0], serial(TIMES[1])]), ""),
    "a blank row between": ([*rows_of(TIMES)[:3], [None] * 6, *rows_of(TIMES)[3:]], ""),
    "ids partly text": ([["17", *rows_of(TIMES)[0][1:]], *rows_of(TIMES)[1:]], ""),
    "times as a pattern's": (
        rows_of([at.strftime("%d.%m.%Y %H:%M") for at in TIMES]),
        "%d.%m.%Y %H:%M",
    ),
    "dates, whatever the pattern": (rows_of(TIMES), "%d.%m.%Y %H:%M"),
}


@pytest.mark.parametrize("kind", BOOKS)
def test_cells_have_their_types(tmp_path: Path, expected: bytes, kind: str) -> None:
    rows, pattern = BOOKS[kind]
    path = write_book(tmp_path / "t.csv", {"obs": [list(HEADER), *rows], "empty": []})
    zone = {'zone = "UTC"': f'zone = "UTC"\nformat = "{pattern}"'} if pattern else {}
    record = run(long_mapping(tmp_path, replaced=zone), [path], tmp_path / "out")
    assert site_table(tmp_path / "out") == expected
    assert record["inputs"][0]["sheet"] == "obs"


def test_days_counted_from_1904(tmp_path: Path, expected: bytes) -> None:
    book = openpyxl.Workbook()
    book.epoch = openpyxl.utils.datetime.CALENDAR_MAC_1904
    for row in [list(HEADER), *rows_of([TIMES[0], serial(TIMES[1]) - 1462])]:
        book.active.append(row)
    book.save(tmp_path / "t.xlsx")
    run(long_mapping(tmp_path), [tmp_path / "t.xlsx"], tmp_path / "out")
    assert site_table(tmp_path / "out") == expected


def test_decimal_commas_in_a_column_with_texts(tmp_path: Path) -> None:
    rows = rows_of(TIMES)
    rows[1][4] = "36,7"
    path = write_book(tmp_path / "t.xlsx", {"obs": [list(HEADER), *rows]})
    mapping = long_mapping(tmp_path, more='[file]\ndecimal = ","\n')
    run(mapping, [path], tmp_path / "out")
    frame = read_site_table(tmp_path / "out" / "sites" / "st-mary.parquet").frame
    assert frame["temperature_c"].dropna().tolist() == pytest.approx([36.7, 36.6, 36.6, 36.6])


def test_a_title_above_and_a_sheet_of_stays(tmp_path: Path, expected: bytes) -> None:
    stays: list[list[Any]] = [["pid", "enc", "in"]]
    stays += [[pid, 7_000_000_000 + pid, TIMES[0]] for pid in (17, 18)]
    rows: list[list[Any]] = [[], ["Ward 3"], [], list(HEADER), *rows_of(TIMES)]
    sheets = {"obs": rows, "stays": stays}
    path = write_book(tmp_path / "t.xlsx", sheets)
    own = 'table = "t.xlsx"\nid = "enc"\nstart = "in"\nfile = { sheet = "stays" }'
    more = '[file]\nsheet = "obs"\nheader-row = 4\n'
    run(long_mapping(tmp_path, stay=own, more=more), [path], tmp_path / "out")
    assert site_table(tmp_path / "out") == expected


def merged_book(path: Path, cells: str) -> None:
    book = openpyxl.Workbook()
    for row in [list(HEADER), *rows_of(TIMES)]:
        book.active.append(row)
    book.active.merge_cells(cells)
    book.save(path)


@pytest.mark.parametrize(
    ("sheets", "more", "message"),
    [
        ({"a": [["x"]], "b": [["y"]]}, "", "2 sheets with cells: a, b; set sheet"),
        ({"a": [["x"]]}, 'sheet = "stays"', "unknown sheet of t.csv 'stays'.* a"),
        ({"a": []}, 'sheet = "a"', "sheet 'a' is empty"),
        ({"a": []}, "", "a workbook without a cell"),
        ({"a": [["Ward 3"], [], list(HEADER), *rows_of(TIMES)]}, "", "set header-row = 3"),
        ({"a": [list(HEADER), *rows_of(TIMES)]}, "header-row = 40", "row 40 is blank"),
        ({"a": [list(HEADER)]}, "", "a header and no row"),
        (
            {"a": [list(HEADER), *rows_of([TIMES[0], "13.03.2024 10:00"])]},
            "",
            "column at holds 4 dates and 4 texts like dates",
        ),
        ({"a": [["pid", "PID", *HEADER[1:]], ["x"] * 7]}, "", "name is there twice"),
    ],
)
def test_what_cannot_be_read_is_one_line(
    tmp_path: Path, sheets: dict[str, list[list[Any]]], more: str, message: str
) -> None:
    path = write_book(tmp_path / "t.csv", sheets)
    with pytest.raises(FedvitalsError, match=message):
        run(long_mapping(tmp_path, more=f"[file]\n{more}\n"), [path], tmp_path / "out")


@pytest.mark.parametrize(
    ("cells", "message"),
    [("A2:A5", "rows 2 to 5 of column 1 are merged"), ("E1:F1", "row 1 has merged cells")],
)
def test_merged_cells(tmp_path: Path, cells: str, message: str) -> None:
    merged_book(tmp_path / "t.xlsx", cells)
    with pytest.raises(FedvitalsError, match=message):
        run(long_mapping(tmp_path), [tmp_path / "t.xlsx"], tmp_path / "out")


def test_without_calamine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_book(tmp_path / "t.xlsx", {"a": [list(HEADER), *rows_of(TIMES)]})
    monkeypatch.setitem(sys.modules, "python_calamine", None)
    with pytest.raises(SourceError, match="pip install python-calamine"):
        run(long_mapping(tmp_path), [path], tmp_path / "out")


def test_an_opendocument_sheet(tmp_path: Path, expected: bytes) -> None:
    def cell(value: Any) -> str:
        if value is None:
            return "<table:table-cell/>"
        if isinstance(value, datetime):
            kind = f'office:value-type="date" office:date-value="{value.isoformat()}"'
        elif isinstance(value, str):
            kind = 'office:value-type="string"'
        else:
            kind = f'office:value-type="float" office:value="{value}"'
        return f"<table:table-cell {kind}><text:p>{value}</text:p></table:table-cell>"

    rows = "".join(
        f"<table:table-row>{''.join(map(cell, row))}</table:table-row>"
        for row in [list(HEADER), *rows_of(TIMES)]
    )
    space = "urn:oasis:names:tc:opendocument:xmlns"
    content = (
        f'<?xml version="1.0"?><office:document-content xmlns:office="{space}:office:1.0" '
        f'xmlns:table="{space}:table:1.0" xmlns:text="{space}:text:1.0"><office:body>'
        f'<office:spreadsheet><table:table table:name="obs">{rows}</table:table>'
        "</office:spreadsheet></office:body></office:document-content>"
    )
    with zipfile.ZipFile(tmp_path / "t.ods", "w") as book:
        book.writestr("mimetype", "application/vnd.oasis.opendocument.spreadsheet")
        book.writestr("META-INF/manifest.xml", '<?xml version="1.0"?><manifest/>')
        book.writestr("content.xml", content)
    run(long_mapping(tmp_path), [tmp_path / "t.ods"], tmp_path / "out")
    assert site_table(tmp_path / "out") == expected
