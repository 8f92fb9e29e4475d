"""Workbooks that memory cannot hold are refused before calamine ends the process."""

from __future__ import annotations

import zipfile
from pathlib import Path

import openpyxl
import pytest

from client.ingest.mapping.source_sections import FileFormat
from client.ingest.sources.open_file import open_file
from client.ingest.sources.workbooks import workbook_limits
from common.errors import SourceError


def workbook(path: Path, **cells: str) -> Path:
    book = openpyxl.Workbook()
    sheet = book.active
    assert sheet is not None
    sheet.append(["patient", "hr"])
    sheet.append(["a", 80])
    for place, value in cells.items():
        sheet[place] = value
    book.save(path)
    return path


def test_a_cell_in_the_last_corner_of_the_sheet_is_named(tmp_path: Path) -> None:
    path = workbook(tmp_path / "t.xlsx", XFD1048576="x")
    with pytest.raises(SourceError, match="a cell far from the others, XFD1048576"):
        open_file(path, FileFormat())


def test_formats_far_from_the_table_are_no_cells(tmp_path: Path) -> None:
    path = workbook(tmp_path / "t.xlsx")
    book = openpyxl.load_workbook(path)
    assert book.active is not None
    book.active["XFD1048576"].font = openpyxl.styles.Font(bold=True)
    book.save(path)
    assert list(open_file(path, FileFormat()).types) == ["patient", "hr"]


def test_a_far_cell_without_a_stated_dimension(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Tags are cut by the ends of parts.
    monkeypatch.setattr(workbook_limits, "_PART_BYTES", 64)
    monkeypatch.setattr(workbook_limits, "_HEAD_BYTES", 300)
    source, path = workbook(tmp_path / "s.xlsx", CZZ700000="x"), tmp_path / "t.xlsx"
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(path, "w") as new:
        for name in old.namelist():
            new.writestr(name, old.read(name).replace(b"<dimension ref=", b"<dimension of="))
    with pytest.raises(SourceError, match="CZZ700000"):
        open_file(path, FileFormat())


def test_a_workbook_that_unpacks_to_far_more_than_a_table_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workbook_limits, "_LARGE_BYTES", 1 << 20)
    path = workbook(tmp_path / "t.xlsx")
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as book:
        book.writestr("xl/media/blank.xml", b" " * (1 << 23))
    with pytest.raises(SourceError, match=r"unpacks to 0\.0 GB, over 100 times its size"):
        open_file(path, FileFormat())
