from __future__ import annotations

import csv
from pathlib import Path

import pytest

from common.errors import UsageError
from common.reporting.components import Figure, Page, Part, Row, Section, Table, raw_html
from common.reporting.export.export import check_export_folder, export_page, export_summary
from common.reporting.svg import differences_figure

ROWS = {"Mean": {"estimate": -0.03, "low": -0.04, "high": -0.02}}


def page() -> Page:
    table = Table("MAE, all", ["Site", "MAE"], [Row("ccu", ["1"])])
    empty = Table("Nothing", ["Site", "MAE"], [])
    figure = Figure("WQL", "", raw_html(differences_figure(ROWS, "WQL")))
    part = Part(figures=[figure], tables=[table, table, empty])
    return Page(title="", headline="", tiles=[], sections=[Section("results", "Results", [part])])


def test_every_table_and_figure_is_written_and_listed(tmp_path: Path) -> None:
    out = tmp_path / "out"
    export_page(page(), out)
    names = {path.name for path in out.iterdir()}
    tables = {f"results-mae-all{n}.{kind}" for n in ("", "-2") for kind in ("csv", "tex")}
    assert names == tables | {"differences-wql.svg", "differences-wql.pdf", "contents.csv"}
    with (out / "contents.csv").open(encoding="utf-8", newline="") as file:
        listed = {row["file"] for row in csv.DictReader(file)}
    assert listed == names - {"contents.csv"}
    assert "2 tables (.csv, .tex) and 1 figure (.svg, .pdf)" in export_summary(out)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    export_page(page(), out)  # the same bytes, over an earlier export
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


def test_files_of_someone_else_are_never_replaced(tmp_path: Path) -> None:
    out = tmp_path / "out"
    export_page(page(), out)
    (out / "paper.tex").write_text("mine")
    with pytest.raises(UsageError, match=r"holds paper\.tex, which no export wrote"):
        export_page(page(), out)
    assert (out / "paper.tex").read_text() == "mine"


def test_a_folder_that_cannot_be_written_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(UsageError):
            check_export_folder(folder)
