"""Errors of few stays, planted into a table of 500 clean ones."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from client.data_quality.checks import find_all
from client.data_quality.finding import QualityFinding
from client.data_quality.stay_checks.all_checks import find_in_stays
from common.data.cohort_folder import site_table_paths
from common.data.cohort_writer import write_cohort
from common.data.site_table import read_site_table
from common.data.vitals import VITAL_NAMES, VITALS
from simulation.cohorts.mimic3.cohort import Mimic3Settings, mimic3_cohort

STAYS, HOURS = 500, 60


def clean_table(seed: int = 0) -> pd.DataFrame:
    """Hourly rows of stays whose vital signs vary, some of them not measured."""
    rng = np.random.default_rng(seed)
    count = STAYS * HOURS
    rows = pd.DataFrame({"patient_id": np.repeat([f"p{n}" for n in range(STAYS)], HOURS)})
    rows["stay_id"] = rows["patient_id"].str.replace("p", "s")
    rows["step"] = np.tile(np.arange(HOURS, dtype=np.int32), STAYS)
    rows["split"] = "train"
    for vital in VITALS:
        of_stay = np.repeat(rng.normal(0, vital.scale_floor, STAYS), HOURS)
        values = vital.clinical_offset + of_stay + rng.normal(0, vital.scale_floor, count)
        values = np.minimum(np.round(values, 1), vital.high if vital.high_included else np.inf)
        values[rng.random(count) < 0.3] = np.nan
        rows[vital.name] = values.astype(np.float32)
    return rows


def found_in(rows: pd.DataFrame, step_minutes: int = 60) -> dict[str, QualityFinding]:
    findings = find_in_stays(rows, step_minutes, told=(), constant=())
    assert len({finding.code for finding in findings}) == len(findings)
    return {finding.code: finding for finding in findings}


def fraction(rows: pd.DataFrame, of: pd.Series[bool]) -> None:
    rows.loc[of, "spo2"] /= 100


def kilopascal(rows: pd.DataFrame, of: pd.Series[bool]) -> None:
    rows.loc[of, "mbp"] *= 0.1333


def kilopascal_by_turns(rows: pd.DataFrame, of: pd.Series[bool]) -> None:
    rows.loc[of & (rows["step"] % 4 == 0), "sbp"] *= 0.1333


def swapped(rows: pd.DataFrame, of: pd.Series[bool]) -> None:
    rows.loc[of, ["sbp", "dbp"]] = rows.loc[of, ["dbp", "sbp"]].to_numpy()


def mean_outside(rows: pd.DataFrame, of: pd.Series[bool]) -> None:
    rows.loc[of, "mbp"] = rows.loc[of, "sbp"] + 5


def frozen_pressure(rows: pd.DataFrame, of: pd.Series[bool]) -> None:
    rows.loc[of & rows["step"].between(20, 45) & rows["dbp"].notna(), "dbp"] = 61.0


def frozen_rate(rows: pd.DataFrame, of: pd.Series[bool]) -> None:
    rows.loc[of & (rows["step"] >= 12), "heart_rate"] = 87.0


def frozen_stay(rows: pd.DataFrame, of: pd.Series[bool]) -> None:
    rows.loc[of, "resp_rate"] = np.nan
    rows.loc[of & (rows["step"] < 26), "resp_rate"] = 17.0


def days_later(rows: pd.DataFrame, of: pd.Series[bool]) -> None:
    rows.loc[of & rows["step"].between(5, 55), list(VITAL_NAMES)] = np.nan


def copied(rows: pd.DataFrame, of: pd.Series[bool]) -> None:
    source = rows.loc[rows["stay_id"] == "s0", list(VITAL_NAMES)].to_numpy()
    rows.loc[of, list(VITAL_NAMES)] = np.tile(source, (int(of.sum()) // HOURS, 1))


PLANTED: dict[str, tuple[Callable[[pd.DataFrame, pd.Series[bool]], None], str, int]] = {
    "fraction": (fraction, 'units = ["%", "fraction"] in [vitals.spo2]', 3),
    "kilopascal": (kilopascal, 'units = ["mmHg", "kPa"] in [vitals.mbp]', 3),
    "by turns": (kilopascal_by_turns, 'units = ["mmHg", "kPa"] in [vitals.sbp]', 3),
    "swapped": (swapped, "exchange them in [vitals.sbp] and [vitals.dbp]", 3),
    "mean": (mean_outside, "[vitals.mbp]", 3),
    "frozen pressure": (frozen_pressure, "[drop]", 3),
    "frozen rate": (frozen_rate, "[drop]", 3),
    "frozen stay": (frozen_stay, "[drop]", 3),
    "jump": (days_later, "[columns] time", 3),
    # The stay that was copied is concerned too.
    "copied": (copied, "[columns] patient", 4),
}
CODES = {
    "fraction": "stay-other-unit",
    "kilopascal": "stay-other-unit",
    "by turns": "stay-other-unit",
    "swapped": "stay-pressures-swapped",
    "mean": "stay-mean-pressure-outside",
    "frozen pressure": "stay-frozen",
    "frozen rate": "stay-frozen",
    "frozen stay": "stay-frozen",
    "jump": "stay-time-jump",
    "copied": "stay-copied",
}


@pytest.mark.parametrize("planted", sorted(PLANTED))
def test_three_stays_of_five_hundred_are_found(planted: str) -> None:
    spoil, remedy, concerned = PLANTED[planted]
    rows = clean_table()
    if planted == "jump":
        # In clean data a stay has no such pause; these stays keep their first and last hours.
        rows.loc[rows["step"].isin((0, 59)), "heart_rate"] = 85.0
    ids = ["s7", "s250", "s499"]
    spoil(rows, rows["stay_id"].isin(ids))
    found = found_in(rows)[CODES[planted]]
    assert found.severity == "warning"
    assert remedy in found.remedy
    assert f"in {concerned} of 500 stays" in found.what
    numbers = found.concerned
    assert numbers is not None
    assert (numbers.stays, numbers.of) == (concerned, STAYS)
    assert numbers.value_count >= concerned
    example = rows.iloc[numbers.row - 1]
    assert example["stay_id"] == numbers.example
    assert numbers.example in {*ids, "s0"}


def test_clean_stays_have_no_finding() -> None:
    for seed in range(3):
        assert not found_in(clean_table(seed))


def test_no_check_of_stays_repeats_what_is_found_of_the_table() -> None:
    rows = clean_table()
    every = pd.Series(data=True, index=rows.index)
    swapped(rows, every)
    fraction(rows, every)
    rows["temperature_c"] = 37.0
    counts = dict.fromkeys(("train", "validation", "test"), 999)
    codes = [found.code for found in find_all(rows, counts, counts, 60, None, [])]
    assert not [code for code in codes if code.startswith("stay-")]
    assert {"pressures-swapped", "unit-left-over", "constant"} <= set(codes)
    # Many stays but not all: a mapping exchanged for all would be wrong.
    rows = clean_table()
    swapped(rows, rows["stay_id"].str.endswith("7"))
    codes = [found.code for found in find_all(rows, counts, counts, 60, None, [])]
    assert "stay-pressures-swapped" in codes
    assert "pressures-swapped" not in codes


def test_a_paced_patient_or_full_saturation_is_no_finding() -> None:
    rows = clean_table()
    rows.loc[rows["stay_id"] == "s3", "heart_rate"] = 80.0
    rows.loc[rows["stay_id"].isin([f"s{n}" for n in range(50)]), "spo2"] = 100.0
    assert not found_in(rows)


def test_a_dying_patient_is_no_other_unit() -> None:
    rows = clean_table()
    last = (rows["stay_id"] == "s3") & (rows["step"] >= 50)
    rows.loc[last, "sbp"] = np.linspace(45, 25, 10, dtype=np.float32)
    rows.loc[last, "dbp"] = np.linspace(30, 14, 10, dtype=np.float32)
    rows.loc[last, "mbp"] = np.linspace(35, 18, 10, dtype=np.float32)
    assert not found_in(rows)


def test_limits_are_in_hours_at_any_step_length() -> None:
    rows = clean_table()
    frozen_pressure(rows, rows["stay_id"].isin(["s1", "s2"]))
    assert "stay-frozen" in found_in(rows, 60)
    assert "stay-frozen" not in found_in(rows, 15)


@settings(max_examples=25)
@given(
    stays=st.lists(st.integers(0, STAYS - 1), min_size=2, max_size=4, unique=True),
    shift=st.integers(0, 20),
    length=st.integers(25, 40),
)
def test_a_part_of_a_series_under_another_id_is_a_copy(
    stays: list[int], shift: int, length: int
) -> None:
    rows = TABLE.copy()
    source, *others = stays
    of_source = rows.loc[rows["stay_id"] == f"s{source}", list(VITAL_NAMES)].to_numpy()
    keep = ~rows["stay_id"].isin([f"s{n}" for n in others]) | (rows["step"] < length)
    rows = rows[keep].reset_index(drop=True)
    for other in others:
        rows.loc[rows["stay_id"] == f"s{other}", list(VITAL_NAMES)] = of_source[
            shift : shift + length
        ]
    found = found_in(rows)
    assert set(found) == {"stay-copied"}
    numbers = found["stay-copied"].concerned
    assert numbers is not None
    # The source has more than the copies, and is concerned if half of it is copied.
    assert numbers.stays in (len(others), len(others) + 1)


TABLE = clean_table(9)


def test_the_open_data_has_no_finding(shared_data: Path, tmp_path: Path) -> None:
    cohort = mimic3_cohort(shared_data / "mimic3-demo", Mimic3Settings(sepsis="none"))
    write_cohort(cohort, tmp_path / "prepared")
    for path in site_table_paths(tmp_path / "prepared").values():
        assert not found_in(read_site_table(path).frame)
