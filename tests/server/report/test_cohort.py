from __future__ import annotations

from dataclasses import replace

from server.report.cohort import cohort_section
from server.runs.run_reader import RunRecord
from tests.server.report.samples import text_of


def test_there_is_no_section_without_a_recorded_flow(record: RunRecord) -> None:
    assert cohort_section(replace(record, evaluation=None)) is None
    assert record.evaluation is not None
    del record.evaluation["cohort"]
    assert cohort_section(record) is None


def test_the_flow_shows_the_exclusions_of_each_rule(record: RunRecord) -> None:
    section = cohort_section(record)
    text = text_of(section)
    assert "60 stays of 55 patients walks in the source" in text
    assert "52 stays of 52 patients adult units 8 stays excluded" in text
    assert section is not None
    assert section.parts[1].folded[0].header == [
        "Rule",
        "Stays",
        "Patients",
        "ccu",
        "micu",
        "nicu",
        "sicu",
    ]
    training_patients = {row.label: row.cells[0] for row in section.parts[2].tables[0].rows}
    assert training_patients == {"ccu": "10", "micu": "11", "sicu": "12"}


def test_table_1_is_shown_by_site_without_small_cells(record: RunRecord) -> None:
    section = cohort_section(record)
    assert section is not None
    (table,) = section.parts[0].tables
    assert table.caption == "Table 1. Characteristics of the patients"
    assert table.header == ["Characteristic", "Overall", "ccu", "micu", "sicu"]
    rows = {row.label: list(row.cells) for row in table.rows}
    assert rows["Patients, n"] == ["52", "12", "24", "16"]
    # 4, 8 and 6 of the sites' patients are women.
    assert rows["Female sex, n (%)"] == ["18 (34.6)", "*", "*", "*"]
    assert rows["Died in hospital, n (%)"] == ["not recorded"] * 4
    assert any("suppressed" in note for note in section.parts[0].notes)


def test_an_older_cohort_has_no_table_1_and_says_why(record: RunRecord) -> None:
    assert record.evaluation is not None
    del record.evaluation["cohort"]["characteristics"]
    assert "must be prepared again" in text_of(cohort_section(record))


def test_a_cohort_s_text_is_cut(record: RunRecord) -> None:
    assert record.evaluation is not None
    record.evaluation["cohort"]["flow"][0]["label"] = "x" * 9999
    assert "x" * 999 not in text_of(cohort_section(record))


def test_a_site_s_own_split_is_named_and_no_hash_where_there_is_none(record: RunRecord) -> None:
    assert record.evaluation is not None
    assert "by a keyed hash" in text_of(cohort_section(record))
    data = record.evaluation["data"]
    data["ccu"]["split_rule"] = "by the column year: train 2019; test 2020"
    text = text_of(cohort_section(record))
    assert "ccu has a split of its own, by the column year: train 2019; test 2020." in text
    assert "by a keyed hash" in text  # of the other sites
    for about in data.values():
        about["split_rule"] = "in time"
    del record.evaluation["cohort"]
    assert "by a keyed hash" not in text_of(cohort_section(record))


def test_hundreds_of_sites_are_rows_and_never_columns(record: RunRecord) -> None:
    assert record.evaluation is not None
    cohort = record.evaluation["cohort"]
    sites = [f"hospital-{number}" for number in range(186)]
    groups = cohort["characteristics"]["sites"]
    cohort["characteristics"]["sites"] = dict.fromkeys(sites, groups["ccu"])
    for step in cohort["flow"]:
        step["stays_per_unit"] = dict.fromkeys(sites, 3)
    section = cohort_section(record)
    assert section is not None
    (table,) = section.parts[0].tables
    assert table.header == ["Characteristic", "Overall"]
    assert any("table1.csv" in note for note in section.parts[0].notes)
    (flow,) = section.parts[1].folded
    assert flow.header == ["Unit", "walks in the source", "adult units"]
    assert len(flow.rows) == 186
