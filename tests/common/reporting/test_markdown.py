from __future__ import annotations

from common.reporting.markdown import table_in_markdown


def test_a_table_has_a_header_a_rule_and_its_rows() -> None:
    table = table_in_markdown(("vital", "MAE"), [("Heart rate", "8.98"), ("SBP", "12.0")])
    assert table == "| vital | MAE |\n|---|---|\n| Heart rate | 8.98 |\n| SBP | 12.0 |"


def test_the_last_columns_can_be_right_aligned() -> None:
    table = table_in_markdown(("", "WQL", "s"), [], right_aligned=1)
    assert table == "|  | WQL | s |\n|---|---|--:|"
