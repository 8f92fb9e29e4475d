from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.data.site_table import SiteTable, SiteTableInfo, make_site_table, write_site_table
from common.data.splits import SPLITS
from common.data.vitals import VITAL_NAMES, VITALS
from common.data.windows import Windows, WindowSettings, make_windows, pool_windows
from common.errors import UsageError

INFO = SiteTableInfo("ccu", "test", "all", 60)
SMALL = WindowSettings(context_steps=4, horizon_steps=2, stride_steps=2, min_context_observed=1)


class OneWindow(NamedTuple):
    vital: int
    patient: str
    context: tuple[float, ...]
    target: tuple[float, ...]


def table_of(stays: list[tuple[str, list[float]]], vital: str = "heart_rate") -> SiteTable:
    """Make a table with one vital; each stay is (patient, values)."""
    rows = [
        {"patient_id": patient, "stay_id": f"{index:04}", "step": step, vital: value}
        for index, (patient, values) in enumerate(stays)
        for step, value in enumerate(values)
    ]
    return make_site_table(pd.DataFrame(rows), INFO)


def split_of_first(table: SiteTable) -> str:
    return str(table.frame["split"].iloc[0])


def obvious_windows(
    table: SiteTable, split: str, how: WindowSettings, vitals: tuple[str, ...]
) -> list[OneWindow]:
    """Cut windows step by step, as the definition reads."""
    found = []
    for vital in vitals:
        for (patient, _), stay in table.frame.groupby(["patient_id", "stay_id"], sort=True):
            if stay["split"].iloc[0] != split:
                continue
            values = dict(zip(stay["step"].tolist(), stay[vital].tolist(), strict=True))
            for origin in range(how.stride_steps, len(values), how.stride_steps):
                context, target = (
                    [values.get(step, float("nan")) for step in steps]
                    for steps in (
                        range(origin - how.context_steps, origin),
                        range(origin, origin + how.horizon_steps),
                    )
                )
                if (
                    np.isfinite(context).sum() >= how.min_context_observed
                    and np.isfinite(target).any()
                ):
                    index = VITAL_NAMES.index(vital)
                    found.append(OneWindow(index, str(patient), tuple(context), tuple(target)))
    return found


def as_list(windows: Windows) -> list[OneWindow]:
    return [
        OneWindow(
            int(windows.vital[row]),
            windows.patient_ids[windows.patient[row]],
            tuple(windows.context[row].tolist()),
            tuple(windows.target[row].tolist()),
        )
        for row in range(len(windows))
    ]


values_of_a_stay = st.lists(st.integers(60, 90) | st.just(float("nan")), min_size=1, max_size=14)


@settings(max_examples=60)
@given(
    stays=st.lists(st.tuples(st.sampled_from("abcdef"), values_of_a_stay), min_size=1, max_size=8),
    how=st.builds(
        lambda context, horizon, stride, observed: WindowSettings(
            context, horizon, stride, min(observed, context)
        ),
        st.integers(1, 8),
        st.integers(1, 6),
        st.integers(1, 5),
        st.integers(1, 8),
    ),
    split=st.sampled_from(SPLITS),
)
def test_windows_are_those_of_the_definition(
    stays: list[tuple[str, list[float]]], how: WindowSettings, split: str
) -> None:
    table = table_of(stays, "spo2")
    vitals = ("spo2", "heart_rate")
    windows = make_windows(table, split, how, vitals)
    np.testing.assert_equal(as_list(windows), obvious_windows(table, split, how, vitals))
    assert set(windows.patient.tolist()) == set(range(len(windows.patient_ids)))


def test_a_window_by_hand() -> None:
    nan = float("nan")
    table = table_of([("a", [80, nan, 82, 83, 84]), ("a", [1, 2])])
    windows = make_windows(table, split_of_first(table), SMALL, ["heart_rate"])
    np.testing.assert_array_equal(windows.context, [[nan, nan, 80, nan], [80, nan, 82, 83]])
    np.testing.assert_array_equal(windows.target, [[82, 83], [84, nan]])
    assert windows.context.dtype == windows.target.dtype == np.float32
    assert windows.vital.dtype == windows.patient.dtype == np.int64
    assert windows.patient_ids == ("a",)


def test_other_settings_do_not_move_the_origins() -> None:
    table = table_of([("a", [float(value) for value in range(60, 90)])])
    split = split_of_first(table)
    first_targets = [
        make_windows(table, split, how, ["heart_rate"]).target[:, 0].tolist()
        for how in (
            WindowSettings(12, 2, 5, 1),
            WindowSettings(24, 2, 5, 1),
            WindowSettings(12, 7, 5, 1),
        )
    ]
    assert first_targets == [[65, 70, 75, 80, 85]] * 3


def test_all_splits_together_hold_each_patient_once() -> None:
    table = table_of([(f"p{index}", [70.0, 71.0, 72.0]) for index in range(60)])
    patients = [make_windows(table, split, SMALL).patient_ids for split in SPLITS]
    assert sorted(id_ for ids in patients for id_ in ids) == sorted(f"p{i}" for i in range(60))


def test_no_window_is_a_valid_result() -> None:
    windows = make_windows(table_of([("a", [80.0])]), "train", SMALL)
    assert len(windows) == 0
    assert windows.context.shape == (0, 4)
    assert windows.target.shape == (0, 2)
    assert windows.patient_ids == ()


def test_taking_windows_keeps_the_meaning_of_patients() -> None:
    table = table_of([("a", [70.0] * 5), ("b", [80.0] * 5)])
    parts = {split: make_windows(table, split, SMALL) for split in SPLITS}
    windows = next(part for part in parts.values() if len(part))
    last = windows.take(windows.patient == windows.patient[-1])
    np.testing.assert_equal(as_list(last)[-1], as_list(windows)[-1])
    assert last.patient_ids == windows.patient_ids
    assert len(windows.of_vital(0)) == len(windows)
    assert len(windows.of_vital(1)) == 0


def test_pooled_sites_keep_patients_apart() -> None:
    table = table_of([("a", [70.0, 71.0, 72.0])])
    windows = make_windows(table, split_of_first(table), SMALL)
    pooled = pool_windows({"ccu": windows, "micu": windows})
    assert pooled.patient_ids == ("ccu/a", "micu/a")
    assert pooled.patient.tolist() == [0, 1]
    np.testing.assert_array_equal(pooled.context[0], pooled.context[1])


def test_only_windows_of_one_shape_pool() -> None:
    table = table_of([("a", [70.0, 71.0, 72.0])])
    short, long = (make_windows(table, "train", WindowSettings(c, 2, 2, 1)) for c in (4, 5))
    with pytest.raises(UsageError, match=r"got \[\(4, 2\), \(5, 2\)\]"):
        pool_windows({"ccu": short, "micu": long})
    with pytest.raises(UsageError, match="got no site"):
        pool_windows({})


@pytest.mark.parametrize(
    ("split", "vitals", "message"),
    [
        ("valid", ["spo2"], "unknown split 'valid'; did you mean 'validation'?"),
        ("train", ["spo"], "unknown vital 'spo'; did you mean 'spo2'?"),
        ("train", ["spo2", "spo2"], "a vital is named twice in spo2, spo2"),
    ],
)
def test_wrong_names_are_refused(split: str, vitals: list[str], message: str) -> None:
    with pytest.raises(UsageError) as error:
        make_windows(table_of([("a", [80.0])]), split, SMALL, vitals)
    assert str(error.value).startswith(message)


@pytest.mark.parametrize(
    ("given_", "message"),
    [
        ({"context_steps": 0}, "windows.context must be at least 1, got 0"),
        ({"horizon_steps": -1}, "windows.horizon must be at least 1, got -1"),
        ({"stride_steps": 0}, "windows.stride must be at least 1, got 0"),
        ({"min_context_observed": 0}, "windows.min-context must be at least 1, got 0"),
        ({"context_steps": 4}, "windows.min-context = 8 exceeds windows.context = 4"),
    ],
)
def test_wrong_settings_are_refused(given_: dict[str, int], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        WindowSettings(**given_)


def test_every_vital_has_its_own_index(tmp_path: Path) -> None:
    rows = pd.DataFrame({"patient_id": "a", "stay_id": "1", "step": range(3)})
    values = {name: 50.0 - index for index, name in enumerate(VITAL_NAMES)}
    table = make_site_table(rows.assign(**{**values, "temperature_c": 37.0}), INFO)
    write_site_table(table, tmp_path / "ccu.parquet")
    windows = make_windows(table, split_of_first(table), SMALL)
    assert windows.vital.tolist() == list(range(len(VITALS)))
    expected = [37.0 if name == "temperature_c" else values[name] for name in VITAL_NAMES]
    assert windows.target[:, 0].tolist() == expected
