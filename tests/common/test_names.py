from __future__ import annotations

import pytest

from common.errors import UsageError
from common.names import check_name


def test_a_known_name_passes() -> None:
    assert check_name("metric", "wql", ("mae", "wql")) == "wql"


def test_the_nearest_name_and_all_that_exist_are_told() -> None:
    with pytest.raises(UsageError) as error:
        check_name("vital", "Heart_Rat", ("heart_rate", "spo2"))
    assert str(error.value) == (
        "unknown vital 'Heart_Rat'; did you mean 'heart_rate'? known are: heart_rate, spo2"
    )


def test_nothing_is_suggested_where_nothing_is_near() -> None:
    with pytest.raises(UsageError, match=r"unknown vital 'xyz'; known are: heart_rate"):
        check_name("vital", "xyz", ("heart_rate",))
