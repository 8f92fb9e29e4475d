from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from common.data.vitals import VITAL_NAMES, VITALS
from common.errors import SourceError, UsageError
from simulation.cohorts.charted_vitals import DROPPED_REASONS
from simulation.cohorts.mimic.chartevents import stream_chartevents
from simulation.cohorts.mimic.vitals import (
    ITEMS_OF_VITAL,
    VITAL_ITEMS,
    hourly_vitals,
)
from simulation.cohorts.mimic3.schema import mimic3_tables

KEYS = ["patient_id", "stay_id", "step"]
GRAFTED = "mimic3-demo-grafted"
HR, HR_NEW, FAHRENHEIT, CELSIUS, SPO2 = 211, 220045, 678, 676, 646
ARTERIAL, CUFF = 51, 455
EVENT_COLUMNS = ["SUBJECT_ID", "ICUSTAY_ID", "ITEMID", "CHARTTIME", "VALUENUM", "ERROR"]

Event = tuple[int, int | None, int, str, float | None, int | None]


def extract(
    folder: Path, step_minutes: int = 60, stays: str = "SELECT * FROM icustays"
) -> tuple[pd.DataFrame, dict[str, int]]:
    with mimic3_tables(folder) as tables:
        tables.load("ICUSTAYS", "the test")
        tables.connection.execute(f"CREATE TABLE kept AS {stays}")
        rows = tables.connection.execute("SELECT DISTINCT subject_id FROM kept").fetchall()
        chartevents = stream_chartevents(
            tables, VITAL_ITEMS, [subject for (subject,) in rows], with_text=False
        )
        return hourly_vitals(tables, "kept", chartevents, step_minutes)


def stay(subject: int, stay_id: int, intime: str, outtime: str | None, hadm: int = 1) -> str:
    return f"{subject},{hadm},{stay_id},carevue,MICU,{intime},{outtime or ''}"


def write(folder: Path, stays: list[str], events: list[Event]) -> Path:
    header = "SUBJECT_ID,HADM_ID,ICUSTAY_ID,DBSOURCE,FIRST_CAREUNIT,INTIME,OUTTIME"
    (folder / "ICUSTAYS.csv").write_text("\n".join([header, *stays]) + "\n")
    frame = pd.DataFrame(events, columns=EVENT_COLUMNS).astype({"ICUSTAY_ID": "Int64"})
    frame.to_csv(folder / "CHARTEVENTS.csv", index=False)
    return folder


ONE_STAY = [stay(1, 10, "2100-01-01 00:30:00", "2100-01-02 00:00:00")]


def one_value(folder: Path, item: int, value: float) -> tuple[float | None, dict[str, int]]:
    write(folder, ONE_STAY, [(1, 10, item, "2100-01-01 01:00:00", value, None)])
    frame, dropped = extract(folder)
    if frame.empty:
        return None, dropped
    values = frame[list(VITAL_NAMES)].to_numpy()
    (measured,) = values[~np.isnan(values)]
    return float(measured), dropped


def by_mimic_code(folder: Path, step: pd.Timedelta) -> pd.DataFrame:
    """The hourly means from mimic-code's own table: first a chart time, then a step."""
    pivoted = pd.read_csv(
        folder / f"{GRAFTED}-labels" / "pivoted_vital.csv.gz", parse_dates=["charttime"]
    ).rename(
        columns={
            "heartrate": "heart_rate",
            "sysbp": "sbp",
            "diasbp": "dbp",
            "meanbp": "mbp",
            "resprate": "resp_rate",
            "tempc": "temperature_c",
        }
    )
    stays = pd.read_csv(folder / GRAFTED / "ICUSTAYS.csv.gz", parse_dates=["INTIME"])
    rows = pivoted.merge(stays, left_on="icustay_id", right_on="ICUSTAY_ID")
    seconds = (rows["charttime"] - rows["INTIME"]).dt.total_seconds()
    rows["step"] = (seconds // step.total_seconds()).astype("int32")
    rows["patient_id"] = rows["SUBJECT_ID"].astype(str)
    rows["stay_id"] = rows["icustay_id"].astype(str)
    return rows.groupby(KEYS)[list(VITAL_NAMES)].mean()


@pytest.fixture(scope="module")
def raw(shared_data: Path) -> pd.DataFrame:
    rows = pd.read_csv(
        shared_data / GRAFTED / "CHARTEVENTS.csv.gz", parse_dates=["CHARTTIME"], low_memory=False
    )
    vital_of = {item: name for name, items in ITEMS_OF_VITAL.items() for item in items.all}
    return rows.assign(vital=rows["ITEMID"].map(vital_of))


@pytest.fixture(scope="module")
def grafted(shared_data: Path) -> tuple[pd.DataFrame, dict[str, int]]:
    return extract(shared_data / GRAFTED)


def test_hourly_means_are_those_of_mimic_code(
    shared_data: Path, grafted: tuple[pd.DataFrame, dict[str, int]], raw: pd.DataFrame
) -> None:
    theirs = by_mimic_code(shared_data, pd.Timedelta(hours=1))
    ours = grafted[0].set_index(KEYS)
    assert ours.index.equals(theirs.index)
    assert ours.index.get_level_values("stay_id").nunique() == 136
    pd.testing.assert_frame_equal(ours.notna(), theirs.notna())
    different = (ours - theirs).abs() > 1e-4

    # mimic-code has no 225309 and 225310, but they do not occur here; it goes by ICUSTAY_ID
    # where we go by time, but all chart times lie within their stays. What is left: it does not
    # drop exact duplicates, so that where two devices were read at one time and one of the rows
    # stands twice, that device counts double. There, and only there, may the means differ.
    times = ["SUBJECT_ID", "CHARTTIME", "vital"]
    twice = raw[raw.duplicated(["SUBJECT_ID", "ITEMID", "CHARTTIME", "VALUENUM"])]
    at_that_time = raw.merge(twice[times], on=times)
    devices = at_that_time.groupby(["ICUSTAY_ID", *times])["ITEMID"].nunique()
    weighted = {(str(stay_id), vital) for stay_id, _, _, vital in devices[devices > 1].index}
    stay_ids = different.index.get_level_values("stay_id")
    found = {
        (stay_id, name) for name in VITAL_NAMES for stay_id in stay_ids[different[name].to_numpy()]
    }
    assert found <= weighted
    assert different.to_numpy().sum() == 7


@pytest.mark.parametrize(
    ("reason", "kind"), [("error flag", "error"), ("no number", "text"), ("duplicate", "duplicate")]
)
def test_dirty_rows_are_counted_by_reason(
    shared_data: Path,
    grafted: tuple[pd.DataFrame, dict[str, int]],
    raw: pd.DataFrame,
    reason: str,
    kind: str,
) -> None:
    # graft.json counts the dirty rows of all items, also of those that are no vital signs (the
    # Glasgow coma scale and the inspired oxygen).
    others = raw[raw["vital"].isna()]
    of_others = {
        "error": (others["ERROR"] == 1).sum(),
        "text": others["VALUENUM"].isna().sum(),
        "duplicate": others.duplicated(["SUBJECT_ID", "ITEMID", "CHARTTIME", "VALUENUM"]).sum(),
    }
    graft = json.loads((shared_data / GRAFTED / "graft.json").read_text())
    assert grafted[1][reason] + of_others[kind] == graft["dirty_rows"][kind]


def test_impossible_values_are_gone(
    grafted: tuple[pd.DataFrame, dict[str, int]], raw: pd.DataFrame
) -> None:
    frame, dropped = grafted
    for vital in VITALS:
        values = frame[vital.name].dropna().to_numpy()
        assert vital.valid(values).all(), vital.name
    rows = raw[(raw["ERROR"] != 1) & raw["vital"].notna() & raw["VALUENUM"].notna()]
    rows = rows.drop_duplicates(["SUBJECT_ID", "ITEMID", "CHARTTIME", "VALUENUM"])
    fahrenheit = rows["ITEMID"].isin([678, 223761])
    possible = fahrenheit & rows["VALUENUM"].between(70, 120, inclusive="neither")
    for vital in VITALS:
        valid = vital.valid(rows["VALUENUM"].to_numpy())
        possible |= (rows["vital"] == vital.name) & ~fahrenheit & valid
    # More than graft.json's 122: the real records hold pressures of 0 and the like themselves.
    assert dropped["impossible value"] == (~possible).sum() == 182
    assert not possible[rows["VALUENUM"].isin([-1, 999, 9999999])].any()
    assert dropped["outside every kept stay"] == 0


def shuffled(rows: pd.DataFrame, folder: Path) -> None:
    rows.sample(frac=1, random_state=3).to_csv(folder / "CHARTEVENTS.csv", index=False)


def gzipped_lower_case(rows: pd.DataFrame, folder: Path) -> None:
    text = rows.rename(columns=str.lower).to_csv(index=False)
    (folder / "chartevents.csv.gz").write_bytes(gzip.compress(text.encode()))


def parquet(rows: pd.DataFrame, folder: Path) -> None:
    rows.sample(frac=1, random_state=4).to_parquet(folder / "CHARTEVENTS.parquet")


@pytest.mark.parametrize("form", [shuffled, gzipped_lower_case, parquet])
def test_row_order_and_file_format_change_nothing(
    shared_data: Path,
    tmp_path: Path,
    grafted: tuple[pd.DataFrame, dict[str, int]],
    raw: pd.DataFrame,
    form: Callable[[pd.DataFrame, Path], None],
) -> None:
    form(raw.drop(columns="vital"), tmp_path)
    (tmp_path / "ICUSTAYS.csv.gz").symlink_to(shared_data / GRAFTED / "ICUSTAYS.csv.gz")
    frame, dropped = extract(tmp_path)
    pd.testing.assert_frame_equal(frame, grafted[0], check_exact=True)
    assert dropped == grafted[1]


@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    values=st.lists(st.floats(1, 299, allow_subnormal=False), min_size=3, max_size=12, unique=True),
    order=st.randoms(use_true_random=False),
)
def test_a_mean_does_not_depend_on_the_order_of_its_values(
    tmp_path: Path, values: list[float], order: object
) -> None:
    events: list[Event] = [
        (1, 10, HR, f"2100-01-01 01:{n % 3:02d}:00", value, None) for n, value in enumerate(values)
    ]
    first, _ = extract(write(tmp_path, ONE_STAY, events))
    order.shuffle(events)  # type: ignore[attr-defined]
    second, _ = extract(write(tmp_path, ONE_STAY, events))
    pd.testing.assert_frame_equal(first, second, check_exact=True)
    means = [np.mean(values[n::3]) for n in range(3)]
    assert first["heart_rate"].tolist() == pytest.approx([np.mean(means)], rel=1e-6)


def test_a_chart_time_counts_once_however_many_devices_were_read(tmp_path: Path) -> None:
    events: list[Event] = [
        (1, 10, ARTERIAL, "2100-01-01 01:00:00", 100, None),
        (1, 10, CUFF, "2100-01-01 01:00:00", 120, None),
        (1, 10, ARTERIAL, "2100-01-01 01:15:00", 140, None),
        (1, 10, ARTERIAL, "2100-01-01 01:30:00", 90, None),
    ]
    frame, dropped = extract(write(tmp_path, ONE_STAY, events))
    assert frame[KEYS].to_numpy().tolist() == [["1", "10", 0], ["1", "10", 1]]
    assert frame["sbp"].tolist() == [125, 90]
    assert frame["heart_rate"].isna().all()
    assert [str(frame[name].dtype) for name in VITAL_NAMES] == ["float32"] * len(VITAL_NAMES)
    assert frame["step"].dtype == np.int32
    assert dropped == dict.fromkeys(DROPPED_REASONS, 0)


@pytest.mark.parametrize(
    ("item", "value", "expected"),
    [
        (FAHRENHEIT, 98.6, 37.0),
        (FAHRENHEIT, 70, None),
        (FAHRENHEIT, 120, None),
        (FAHRENHEIT, 37, None),
        (CELSIUS, 37, 37),
        (CELSIUS, 10, None),
        (CELSIUS, 98.6, None),
        (HR, 0, None),
        (HR_NEW, 299, 299),
        (HR, 300, None),
        (SPO2, 100, 100),
        (SPO2, 100.5, None),
        (225309, 110, 110),
    ],
)
def test_units_and_ranges(tmp_path: Path, item: int, value: float, expected: float | None) -> None:
    measured, dropped = one_value(tmp_path, item, value)
    assert measured == (expected if expected is None else pytest.approx(expected, abs=1e-5))
    assert dropped["impossible value"] == (expected is None)


def test_each_reason_is_counted_and_a_copy_is_a_duplicate(tmp_path: Path) -> None:
    good: Event = (1, 10, HR, "2100-01-01 01:00:00", 80, None)
    impossible: Event = (1, 10, HR, "2100-01-01 01:01:00", 999, 0)
    events: list[Event] = [
        good,
        (1, None, *good[2:]),
        good,
        impossible,
        impossible,
        (1, 10, HR, "2100-01-01 01:02:00", 81, 1),
        (1, 10, HR, "2100-01-01 01:03:00", None, 0),
        (1, 10, HR, "2100-01-01 00:29:59", 82, 0),
        (1, 10, HR, "2100-01-02 00:00:01", 82, 0),
        (1, 10, 198, "2100-01-01 01:00:00", 15, 0),
    ]
    frame, dropped = extract(write(tmp_path, ONE_STAY, events))
    assert frame["heart_rate"].tolist() == [80]
    assert dropped == {
        "duplicate": 3,
        "error flag": 1,
        "no number": 1,
        "impossible value": 1,
        "outside every kept stay": 2,
    }


def test_events_go_to_stays_by_patient_and_time_not_by_icustay_id(tmp_path: Path) -> None:
    stays = [
        stay(1, 10, "2100-01-01 00:00:00", "2100-01-01 10:00:00"),
        stay(1, 11, "2100-01-01 10:00:00", "2100-01-01 20:00:00"),
        stay(2, 20, "2100-01-01 00:00:00", "2100-01-01 20:00:00"),
    ]
    events: list[Event] = [
        (1, None, HR, "2100-01-01 00:00:00", 70, None),
        (1, 11, HR, "2100-01-01 09:59:59", 80, None),
        # In both stays by its time: the later one has it.
        (1, 10, HR, "2100-01-01 10:00:00", 90, None),
        (1, None, HR, "2100-01-01 20:00:00", 95, None),
        (2, None, HR, "2100-01-01 10:00:00", 60, None),
    ]
    frame, dropped = extract(write(tmp_path, stays, events))
    assert frame[[*KEYS, "heart_rate"]].to_numpy().tolist() == [
        ["1", "10", 0, 70],
        ["1", "10", 9, 80],
        ["1", "11", 0, 90],
        ["1", "11", 10, 95],
        ["2", "20", 10, 60],
    ]
    assert dropped["outside every kept stay"] == 0


def test_a_stay_without_outtime_ends_at_the_next_stay_or_the_discharge(tmp_path: Path) -> None:
    stays = [
        stay(1, 10, "2100-01-01 00:00:00", None),
        stay(1, 11, "2100-01-01 10:00:00", "2100-01-01 12:00:00"),
        stay(2, 20, "2100-01-01 00:00:00", None, hadm=2),
        stay(3, 30, "2100-01-01 00:00:00", None, hadm=3),
    ]
    admissions = [
        "SUBJECT_ID,HADM_ID,ADMITTIME,DISCHTIME,DEATHTIME",
        "1,1,2099-12-31 00:00:00,2100-01-05 00:00:00,",
        "2,2,2099-12-31 00:00:00,2100-01-01 10:00:00,",
    ]
    events: list[Event] = [
        (subject, None, HR, f"2100-01-0{day} {hour:02d}:00:00", 80, None)
        for subject in (1, 2, 3)
        for day, hour in ((1, 9), (1, 11), (2, 0))
    ]
    write(tmp_path, stays, events)
    # Without the later stay among the kept ones its events must not fall to the open-ended one.
    kept = "SELECT * FROM icustays WHERE stay_id <> 11"
    with pytest.raises(SourceError, match="ADMISSIONS, needed for the end of ICU stays"):
        extract(tmp_path, stays=kept)

    (tmp_path / "ADMISSIONS.csv").write_text("\n".join(admissions) + "\n")
    frame, dropped = extract(tmp_path, stays=kept)

    assert frame[["stay_id", "step"]].to_numpy().tolist() == [
        ["10", 9],
        ["20", 9],
        # Nothing is known of an end.
        ["30", 9],
        ["30", 11],
        ["30", 24],
    ]
    assert dropped["outside every kept stay"] == 4


@pytest.mark.parametrize(("step_minutes", "steps"), [(15, [0, 3, 4]), (60, [0, 1]), (240, [0])])
def test_steps_count_from_intime(tmp_path: Path, step_minutes: int, steps: list[int]) -> None:
    events: list[Event] = [
        (1, 10, HR, time, 80, None)
        for time in ("2100-01-01 00:30:00", "2100-01-01 01:29:59", "2100-01-01 01:30:00")
    ]
    frame, _ = extract(write(tmp_path, ONE_STAY, events), step_minutes)
    assert frame["step"].tolist() == steps


def test_no_measurement_gives_an_empty_frame_with_its_columns(tmp_path: Path) -> None:
    frame, dropped = extract(write(tmp_path, ONE_STAY, []))
    assert list(frame.columns) == [*KEYS, *VITAL_NAMES]
    assert frame.empty
    assert dropped == dict.fromkeys(DROPPED_REASONS, 0)


def test_a_step_of_no_length_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="at least 1 minute, got 0"):
        extract(write(tmp_path, ONE_STAY, []), 0)
