from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.data.site_table import (
    SITE_TABLE_COLUMNS,
    SiteTable,
    SiteTableInfo,
    make_site_table,
    read_site_table,
    validate_site_table,
    write_site_table,
)
from common.data.splits import split_of
from common.data.vitals import VITAL_NAMES, VITALS
from common.errors import SiteTableError

INFO = SiteTableInfo("micu", "mimic3", "sepsis=explicit", 60)


def observations() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "patient_id": [10, 10, 2, 10],
            "stay_id": [7, 7, 5, 8],
            "step": [2, 0, 1, 0],
            "heart_rate": [80.0, 90.0, 70.0, np.nan],
            "spo2": [100.0, np.nan, 97.5, 99.0],
        }
    )


def table() -> SiteTable:
    return make_site_table(observations(), INFO)


def test_steps_are_filled_up_and_sorted() -> None:
    frame = table().frame
    assert list(frame.columns) == list(SITE_TABLE_COLUMNS)
    assert frame[["patient_id", "stay_id", "step"]].to_numpy().tolist() == [
        ["10", "7", 0],
        ["10", "7", 1],
        ["10", "7", 2],
        ["10", "8", 0],
        ["2", "5", 0],
        ["2", "5", 1],
    ]
    np.testing.assert_array_equal(frame["heart_rate"], [90, np.nan, 80, np.nan, np.nan, 70])
    assert frame["sbp"].isna().all()
    assert frame["split"].tolist() == [split_of(patient) for patient in frame["patient_id"]]


def test_order_of_observations_does_not_matter() -> None:
    shuffled = make_site_table(observations().sample(frac=1, random_state=1), INFO)
    pd.testing.assert_frame_equal(table().frame, shuffled.frame)


def test_written_and_read_back_equal(tmp_path: Path) -> None:
    path = tmp_path / "micu.parquet"
    write_site_table(table(), path)
    read = read_site_table(path)
    assert read.info == INFO
    pd.testing.assert_frame_equal(read.frame, table().frame, check_dtype=False)
    assert [path.name for path in tmp_path.iterdir()] == ["micu.parquet"]


def test_equal_tables_have_equal_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_site_table(table(), tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_missing_values_are_nan_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "micu.parquet"
    write_site_table(table(), path)
    column = pq.read_table(path)["heart_rate"]
    assert column.null_count == 0
    assert np.isnan(column.to_numpy()).sum() == 3


def test_parquet_carries_units_and_rule(tmp_path: Path) -> None:
    path = tmp_path / "micu.parquet"
    write_site_table(table(), path)
    metadata = pq.read_schema(path).metadata[b"fedvitals"].decode()
    for vital in VITALS:
        assert vital.name in metadata
    assert "sepsis=explicit" in metadata


def with_value(column: str, row: int, value: Any) -> SiteTable:
    frame = table().frame.astype({"stay_id": object, "split": object, "patient_id": object})
    frame.loc[row, column] = value
    return SiteTable(frame, INFO)


@pytest.mark.parametrize(
    ("column", "row", "value", "message"),
    [
        ("heart_rate", 2, 300.0, "row 2: heart_rate is outside 0 < x < 300 bpm (1 such rows)"),
        ("heart_rate", 0, np.inf, "row 0: heart_rate is outside"),
        ("spo2", 0, 100.5, "row 0: spo2 is outside 0 < x <= 100 %"),
        ("temperature_c", 4, 98.6, "row 4: temperature_c is outside"),
        ("step", 1, 5, "row 1: step is not the next"),
        ("stay_id", 0, None, "row 0: stay_id is empty"),
        ("patient_id", 3, "", "row 3: patient_id is empty"),
        ("split", 0, "holdout", "row 0: split is not the one"),
    ],
)
def test_a_broken_row_is_named(column: str, row: int, value: Any, message: str) -> None:
    with pytest.raises(SiteTableError) as error:
        validate_site_table(with_value(column, row, value), "micu.parquet")
    assert str(error.value).startswith("micu.parquet: ")
    assert message in str(error.value)


def test_a_stay_of_two_patients_is_named() -> None:
    frame = table().frame
    frame.loc[[4, 5], "stay_id"] = "7"
    with pytest.raises(SiteTableError, match="row 4: stay_id occurs in two places"):
        validate_site_table(SiteTable(frame, INFO))


def test_broken_columns_are_named() -> None:
    frame = table().frame
    for broken, message in (
        (frame.drop(columns="mbp"), "lacks mbp"),
        (frame.assign(name="x"), "has the unknown name"),
        (frame.astype({"sbp": "float64"}), "column sbp is float64, expected float32"),
        (frame.astype({"step": "int64"}), "column step is int64, expected int32"),
        (frame[list(reversed(SITE_TABLE_COLUMNS))], "out of order"),
        (frame.iloc[:0], "has no rows"),
    ):
        with pytest.raises(SiteTableError, match=message):
            validate_site_table(SiteTable(broken, INFO))


def test_another_schema_version_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SiteTableError, match="schema version 99"):
        write_site_table(SiteTable(table().frame, replace(INFO, schema_version=99)), tmp_path / "x")
    assert list(tmp_path.iterdir()) == []


def test_unreadable_files_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(SiteTableError, match="there is no site table at"):
        read_site_table(tmp_path / "absent.parquet")
    text = tmp_path / "text.parquet"
    text.write_text("not parquet")
    with pytest.raises(SiteTableError, match=r"text\.parquet cannot be read as Parquet"):
        read_site_table(text)
    plain = tmp_path / "plain.parquet"
    pq.write_table(pa.table({"a": [1]}), plain)
    with pytest.raises(SiteTableError, match="has no valid fedvitals metadata"):
        read_site_table(plain)


@given(
    st.lists(
        st.tuples(st.integers(0, 4), st.integers(0, 2), st.integers(0, 30)),
        min_size=1,
        max_size=30,
        unique=True,
    )
)
def test_any_observations_make_a_valid_table(rows: list[tuple[int, int, int]]) -> None:
    frame = pd.DataFrame(rows, columns=["patient_id", "visit", "step"])
    frame["stay_id"] = frame["patient_id"] * 10 + frame["visit"]
    for index, name in enumerate(VITAL_NAMES):
        frame[name] = 20.0 + index
    made = make_site_table(frame.drop(columns="visit"), INFO)
    observed = made.frame.dropna()
    assert len(observed) == len(rows)
    assert made.frame.groupby("patient_id")["split"].nunique().eq(1).all()
