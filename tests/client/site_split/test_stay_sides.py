from __future__ import annotations

from datetime import UTC, date, datetime

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.site_split.split_rule import FIRST, REFUSE, SplitRule
from client.site_split.stay_sides import OTHER, assign_sides, with_validation
from common.data.splits import SPLITS, draw_validation
from common.errors import CohortError, FedvitalsError, SourceError

YEAR_US = 365 * 86_400_000_000
BY_COLUMN = SplitRule(column="year", train=("2019",), validation=("2020",), test=("2021",))


def stays(*rows: tuple[str, int, int]) -> pd.DataFrame:
    """Stays, each a patient, a start in microseconds and the bits of its part."""
    return pd.DataFrame(rows, columns=["patient_id", "start_us", "part"])


@given(
    st.lists(
        st.tuples(st.integers(0, 6), st.integers(0, 5 * YEAR_US), st.integers(0, 2)), min_size=1
    ),
    st.sampled_from(
        [
            SplitRule(before=date(1972, 6, 1)),
            SplitRule(last_percent=30.0),
            SplitRule(last_percent=90.0, both_sides=REFUSE),
            BY_COLUMN,
            BY_COLUMN.replace(both_sides=FIRST),
        ]
    ),
    st.floats(0, 0.5),
)
def test_no_patient_is_on_two_sides(
    rows: list[tuple[int, int, int]], rule: SplitRule, share: float
) -> None:
    table = stays(*((str(patient), start, 1 << place) for patient, start, place in rows))
    try:
        parts = assign_sides(table, rule, "UTC").parts
    except FedvitalsError:
        return  # refused: a patient on both sides, or a part without patients
    drawn = draw_validation(table["patient_id"], parts, share)
    for given_parts in (parts, drawn):
        assert set(given_parts) <= set(SPLITS)
        sides = pd.Series(given_parts).groupby(table["patient_id"].to_numpy()).nunique()
        assert (sides == 1).all()
    assert ((drawn == parts) | ((parts == "train") & (drawn == "validation"))).all()


def test_in_time_a_patient_is_where_the_first_stay_is() -> None:
    table = stays(("a", 1, 0), ("a", 3 * YEAR_US, 0), ("b", 3 * YEAR_US, 0))
    sides = assign_sides(table, SplitRule(before=date(1972, 1, 1)), "UTC")
    assert sides.parts.tolist() == ["train", "train", "test"]
    assert sides.facts["patients_on_both_sides"] == 1
    assert sides.facts["years"] == [1970, 1972]
    with pytest.raises(SourceError, match=r"stays of 1 of 2 patients into several parts"):
        assign_sides(table, SplitRule(before=date(1972, 1, 1), both_sides=REFUSE), "UTC")


def test_the_last_stays_by_admission_are_test() -> None:
    table = stays(*((str(number), number, 0) for number in range(10)))
    sides = assign_sides(table.sample(frac=1, random_state=0), SplitRule(last_percent=20.0), "UTC")
    assert sorted(sides.parts.tolist()) == ["test"] * 2 + ["train"] * 8


def test_the_day_begins_in_the_hospitals_time_zone() -> None:
    midnight = int(datetime(2021, 12, 31, 23, tzinfo=UTC).timestamp() * 1e6)
    table = stays(("a", midnight - 1, 0), ("b", midnight, 0))
    rule = SplitRule(before=date(2022, 1, 1))
    sides = assign_sides(table, rule, "Europe/Berlin")
    assert sides.parts.tolist() == ["train", "test"]
    assert (sides.facts["test_from"], sides.facts["years"]) == ("2022-01-01", [2021, 2022])
    with pytest.raises(CohortError, match="leaves no test patient of 2"):
        assign_sides(table, rule, "UTC")


@pytest.mark.parametrize(
    ("bits", "message"),
    [
        (0, "1 of 3 stays have no value in the column year"),
        (OTHER, "1 of 3 stays have a value that is in none of train, validation and test"),
        (5, "1 of 3 stays have several values of different parts"),
        (1 | OTHER, "1 of 3 stays have several values of different parts"),
    ],
)
def test_a_stay_without_one_part_is_refused(bits: int, message: str) -> None:
    with pytest.raises(SourceError, match=message):
        assign_sides(stays(("a", 0, 1), ("b", 0, 4), ("c", 0, bits)), BY_COLUMN, "UTC")


def test_a_part_without_patients_is_refused() -> None:
    with pytest.raises(CohortError, match="leaves no test patient of 1"):
        assign_sides(stays(("a", 0, 1)), BY_COLUMN, "UTC")


def test_validation_is_drawn_by_patient_at_about_its_share() -> None:
    ids = np.repeat([f"p{number}" for number in range(2000)], 2)
    drawn = draw_validation(ids, ["train"] * len(ids), 0.125)
    assert 0.1 < np.mean(drawn == "validation") < 0.15


def test_validation_never_takes_the_last_training_patient() -> None:
    steps = pd.DataFrame({"patient_id": ["a", "a", "b"], "split": ["train", "train", "test"]})
    rule = SplitRule(before=date(2022, 1, 1), validation_percent=0)
    assert with_validation(steps, rule).tolist() == ["train", "train", "test"]
    ids = (f"patient-{number}" for number in range(50))
    drawn = next(one for one in ids if draw_validation([one], ["train"], 0.5)[0] == "validation")
    steps = pd.DataFrame({"patient_id": [drawn, "b"], "split": ["train", "test"]})
    with pytest.raises(CohortError, match="leaves no training patient"):
        with_validation(steps, rule.replace(validation_percent=50))
