from __future__ import annotations

import csv
import io

import pytest

from common.reporting.characteristics import characteristics_in_csv
from common.reporting.components import Row, Table
from common.reporting.export.inert_csv import inert_csv, inert_text
from common.reporting.export.table_files import csv_table
from tests.common.reporting.test_small_cells import cohort, group

FORMULAS = ("=HYPERLINK(1)", "+A1", "-2+3", "@SUM(1)", "  =1", "-c key=value")


@pytest.mark.parametrize("text", FORMULAS)
def test_a_formula_is_text(text: str) -> None:
    assert inert_text(text) == f"'{text}"
    assert next(csv.reader(io.StringIO(inert_csv([[text, 1]])))) == [f"'{text}", "1"]


def test_a_tab_or_a_carriage_return_hides_no_formula() -> None:
    assert inert_csv([["\t=1", "a\rb", "\r=1"]]) == "' =1,a b,' =1\n"


@pytest.mark.parametrize("text", ["", "-5", "+0.25", "-1e-3", "a=b", "micu", "−3 %"])  # noqa: RUF001
def test_other_text_and_numbers_are_as_they_were(text: str) -> None:
    assert inert_text(text) == text


def test_the_header_of_a_table_is_text_too() -> None:
    table = Table("t", ["Site", "=evil"], [Row("-evil", ["@evil"])], text=True)
    rows = list(csv.reader(io.StringIO(csv_table(table))))
    assert rows == [["Site", "'=evil"], ["'-evil", "'@evil"]]


def test_a_care_unit_of_table_1_is_text() -> None:
    found = cohort(group({"female": 20, "male": 20, "unknown": 0}))
    for one in (found["overall"], *found["sites"].values()):
        one["unit"] = {"=cmd|calc": 40}
    labels = [row[0] for row in csv.reader(io.StringIO(characteristics_in_csv(found)))]
    assert "'  =cmd|calc, n (%)" in labels or "'  =cmd|calc" in labels
    assert not any(label.lstrip().startswith("=") for label in labels)
