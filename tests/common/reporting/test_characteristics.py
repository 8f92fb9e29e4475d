from __future__ import annotations

import csv
import io

import pytest
from rich.console import Console

from common.data.characteristics import characterise
from common.data.windows import WindowSettings
from common.reporting.characteristics import (
    characteristics_in_csv,
    characteristics_in_markdown,
    characteristics_notes,
    characteristics_on_console,
    characteristics_table,
)
from common.reporting.small_cells import without_small_cells
from tests.common.data.test_characteristics import random_cohort


def rows_of(text: str) -> dict[str, list[str]]:
    return {row[0].strip(): row[1:] for row in csv.reader(io.StringIO(text))}


def test_every_output_has_the_same_texts() -> None:
    tables, facts = random_cohort(1)
    found = characterise(tables, facts, windows=WindowSettings(), sepsis="rule x")
    texts = rows_of(characteristics_in_csv(found))
    assert texts["Characteristic"] == ["Overall", "a", "b", "c"]
    group = found["overall"]
    assert texts["Patients, n"][0] == str(group["patients"])
    age = group["age"]
    assert texts["Age, years"][0] == f"{age['median']:.0f} [{age['q1']:.0f}, {age['q3']:.0f}]"
    died = group["died"]
    share = 100 * died["yes"] / died["known"]
    assert texts["Died in hospital, n (%)"][0] == f"{died['yes']} ({share:.1f})"
    assert texts["over 89, n (%)"][0].startswith(f"{group['over_89']} (")
    assert "Sepsis (rule x), n (%)" in texts
    # Site a records no care unit of any stay: a zero would be a count.
    assert found["sites"]["a"]["unit"] is None
    assert texts["sicu"][1] == "not recorded"
    markdown = characteristics_in_markdown(found)
    page = characteristics_table(found)
    for cells in texts.values():
        assert all(cell in markdown for cell in cells)
    assert len(page.rows) == len(characteristics_in_csv(found).splitlines()) - 1
    assert markdown.startswith("**Table 1. Characteristics of the patients**")


def test_what_is_not_recorded_is_said() -> None:
    tables, facts = random_cohort(2)
    texts = rows_of(characteristics_in_csv(characterise(tables)))
    for name in ("Age, years", "Female sex, n (%)", "Died in hospital, n (%)", "Care unit, n (%)"):
        assert texts[name] == ["not recorded"] * 4
    assert "Windows, n" not in texts
    some = characterise(tables, facts)
    unknown = some["overall"]["sex"]["unknown"]
    csv_rows = [
        line for line in characteristics_in_csv(some).splitlines() if "not recorded" in line
    ]
    assert any(f",{unknown} (" in line for line in csv_rows)


def test_a_single_site_has_one_column_and_no_rule_no_note() -> None:
    tables, _ = random_cohort(3)
    alone = characterise({"b": tables["b"]})
    assert characteristics_table(alone).header == ["Characteristic", "b"]
    assert not any("older than 89" in note for note in characteristics_notes(alone))


def test_suppressed_cells_are_explained() -> None:
    tables, facts = random_cohort(1)
    published = without_small_cells(characterise(tables, facts))
    assert "*" in rows_of(characteristics_in_csv(published))["Female sex, n (%)"]
    assert "suppressed" in characteristics_notes(published)[-1]


@pytest.mark.parametrize("width", [80, 100, 200])
def test_nothing_is_cut_on_a_console(width: int) -> None:
    tables, facts = random_cohort(1)
    found = characterise(tables, facts, sepsis="a [bracketed] rule")
    console = Console(width=width, file=io.StringIO(), record=True)
    for block in characteristics_on_console(found, width):
        console.print(block)
    text = console.export_text()
    assert all(len(line) <= width for line in text.splitlines())
    assert "[bracketed]" in text
    for cells in rows_of(characteristics_in_csv(found)).values():
        assert all(cell in text for cell in cells)
