from __future__ import annotations

from datetime import date

import pytest

from client.site_split.split_rule import SplitRule
from common.errors import UsageError

BY_COLUMN = {"column": "year", "train": ["2019", 2020], "test": "2021"}


def test_a_rule_by_column_takes_texts_and_numbers() -> None:
    rule = SplitRule.load(BY_COLUMN)
    assert rule.train == ("2019", "2020")
    assert rule.refuses_both_sides
    assert "train 2019, 2020; test 2021" in rule.text
    assert rule.short_text == "split by a column"


@pytest.mark.parametrize("given", [date(2022, 1, 1), "2022-01-01"])
def test_a_rule_in_time_takes_a_day_of_toml_or_a_text(given: object) -> None:
    rule = SplitRule.load({"before": given})
    assert rule.before == date(2022, 1, 1)
    assert not rule.refuses_both_sides
    assert "2022" not in rule.short_text


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "takes one of column, before and last-percent, got none"),
        ({"before": "2022-01-01", "last-percent": 20.0}, "got before and last-percent"),
        ({"last-percent": 20.0, "test": ["x"]}, "test goes with column, not with last-percent"),
        ({"column": "year", "train": ["1"]}, "test is missing: the values of year that are test"),
        ({**BY_COLUMN, "validation": ["2021"]}, "names '2021' in two parts"),
        ({"before": "1.1.2022"}, "is a date as 2022-01-01, got '1.1.2022'"),
        ({"last-percent": 120.0}, "last-percent"),
        ({**BY_COLUMN, "both-sides": "keep"}, "both-sides"),
        ({**BY_COLUMN, "tests": "2022"}, "tests"),
    ],
)
def test_a_rule_that_cannot_be_meant_is_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError) as refused:
        SplitRule.load(values)
    assert message in str(refused.value)
