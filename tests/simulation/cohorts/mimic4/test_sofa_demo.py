"""SOFA of MIMIC-IV's demo against slow code of its own, as far as the demo's tables go."""

from __future__ import annotations

import gzip
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from common.errors import SourceError
from simulation.cohorts.mimic.chartevents import stream_chartevents
from simulation.cohorts.mimic.sofa.score import sofa_scores
from simulation.cohorts.mimic4.cohort import Mimic4Settings, mimic4_cohort
from simulation.cohorts.mimic4.schema import mimic4_tables
from simulation.cohorts.mimic4.sepsis3_records import METAVISION_SOFA_ITEMS, mimic4_sofa_records
from tests.simulation.cohorts.mimic4.tables import SEPSIS3_HEADERS

HOUR = pd.Timedelta(hours=1)
ITEMS = {
    "hosp/labevents": [50885, 50912, 51265],
    "icu/chartevents": [220052, 220181, 225312, 220739, 223900, 223901],
    "icu/outputevents": [
        *range(226557, 226562),
        *(226563, 226564, 226565, 226567, 226584, 227488, 227489),
    ],
}
COMPARED = ("coagulation", "liver", "cardiovascular", "cns", "renal")


@pytest.fixture(scope="module")
def demo(shared_data: Path) -> Path:
    folder = shared_data / "mimic4-demo"
    if not folder.is_dir():
        pytest.skip(f"MIMIC-IV's demo is not present at {folder}")
    return folder


def test_sepsis3_is_refused_where_tables_are_absent(demo: Path) -> None:
    with pytest.raises(SourceError) as refused:
        mimic4_cohort(demo, Mimic4Settings(sepsis="sepsis3"))
    message = str(refused.value)
    assert "MICROBIOLOGYEVENTS, INPUTEVENTS, PROCEDUREEVENTS absent" in message
    assert "lacks the column DRUG_TYPE, ROUTE" in message
    assert "\n" not in message


def windows_of(stays: pd.DataFrame) -> pd.DataFrame:
    """A window a stay: the first day of every other, else one of another start and length."""
    random = np.random.default_rng(4)
    count = len(stays)
    first_day = np.arange(count) % 2 == 0
    start = np.where(first_day, 0, random.integers(-60, 60, count))
    length = np.where(first_day, 24, random.integers(6, 90, count))
    begin = stays["intime"] + pd.to_timedelta(start, unit="h")
    windows = stays.assign(window_start=begin, window_end=begin + pd.to_timedelta(length, unit="h"))
    return windows[["subject_id", "stay_id", "window_start", "window_end"]]


def graded(value: float, limits: list[float], *, low: bool = False) -> int:
    """Points by the number of limits that a value reaches, or is below."""
    return sum(value < limit if low else value >= limit for limit in limits)


def coma_points(chart: pd.DataFrame) -> int | None:
    scales = []
    before: tuple[Any, dict[str, float]] | None = None
    names = {220739: "eyes", 223900: "verbal", 223901: "motor"}
    normal = {"eyes": 4.0, "verbal": 5.0, "motor": 6.0}
    rows = chart[chart["itemid"].isin(names)]
    time: Any
    for time, row in rows.pivot_table("valuenum", "charttime", "itemid", "max").iterrows():
        measured: Any = row.dropna().items()
        parts = {names[item]: value for item, value in measured}
        old = before[1] if before and time - before[0] < 6 * HOUR else {}
        scales.append(sum((normal | old | parts).values()))
        before = (time, parts)
    return graded(min(scales), [15, 13, 10, 6], low=True) if scales else None


def urine_points(outputs: pd.DataFrame, stays: pd.DataFrame, start: Any, end: Any) -> int | None:
    days = []
    stay: Any
    number: Any
    for stay in stays.itertuples():
        first, last = max(start, stay.intime), min(end, stay.outtime)
        hours = (last - first) // pd.Timedelta(minutes=1) / 60
        if last < first:
            continue
        rows = outputs[(outputs["stay_id"] == stay.stay_id)]
        rows = rows[rows["charttime"].between(first, end)]
        since = (rows["charttime"] - first) // HOUR // 24
        day = since.clip(upper=max(math.ceil(hours / 24) - 1, 0))
        millilitres = rows["value"].where(rows["itemid"] != 227488, -rows["value"])
        for number, ml in millilitres.groupby(day).sum().items():
            covered = hours - number * 24
            if covered >= 12:
                days.append(ml * 24 / min(covered, 24))
    return {0: 0, 1: 3, 2: 4}[graded(round(min(days), 3), [500, 200], low=True)] if days else None


def slow_points(window: Any, source: dict[str, pd.DataFrame]) -> dict[str, int | None]:
    """Points of a window, from the tables of its patient."""
    start, end = window["window_start"], window["window_end"]
    laboratory, chart = (
        source[table][source[table]["charttime"].between(start, end)]
        for table in ("labevents", "chartevents")
    )

    def worst(item: int, most: float, take: Callable[[pd.Series], float]) -> float | None:
        values = laboratory.loc[laboratory["itemid"] == item, "valuenum"]
        values = values[(values > 0) & (values <= most)]
        return None if values.empty else take(values)

    def points(value: float | None, limits: list[float], *, low: bool = False) -> int | None:
        return None if value is None else graded(value, limits, low=low)

    pressures = chart.loc[chart["itemid"].isin([220052, 220181, 225312]), "valuenum"]
    pressures = pressures[(pressures > 0) & (pressures < 300)]
    renal = [
        points(worst(50912, 150, pd.Series.max), [1.2, 2, 3.5, 5]),
        urine_points(source["outputevents"], source["icustays"], start, end),
    ]
    return {
        "coagulation": points(worst(51265, 10_000, pd.Series.min), [150, 100, 50, 20], low=True),
        "liver": points(worst(50885, 150, pd.Series.max), [1.2, 2, 6, 12]),
        "cardiovascular": None if pressures.empty else int(pressures.min() < 70),
        "cns": coma_points(chart),
        "renal": max((found for found in renal if found is not None), default=None),
    }


def test_components_are_those_of_a_slow_reference(demo: Path, tmp_path: Path) -> None:
    # The demo's tables, and two that it lacks, without rows.
    for path in demo.glob("*/*.csv.gz"):
        (tmp_path / path.parent.name).mkdir(exist_ok=True)
        (tmp_path / path.parent.name / path.name).symlink_to(path)
    for table in ("icu/inputevents", "icu/procedureevents"):
        header = f"{SEPSIS3_HEADERS[table]}\n".encode()
        (tmp_path / f"{table}.csv.gz").write_bytes(gzip.compress(header))
    stays = pd.read_csv(tmp_path / "icu/icustays.csv.gz", parse_dates=["intime", "outtime"])
    source = {"icustays": stays}
    for name, items in ITEMS.items():
        rows = pd.read_csv(tmp_path / f"{name}.csv.gz")
        rows = rows[rows["itemid"].isin(items)]
        source[Path(name).name] = rows.assign(charttime=pd.to_datetime(rows["charttime"]))
    windows = windows_of(stays)
    with mimic4_tables(tmp_path) as tables:
        subjects = stays["subject_id"].unique().tolist()
        chart = stream_chartevents(tables, METAVISION_SOFA_ITEMS, subjects, with_text=True)
        records = mimic4_sofa_records(tables, chart, subjects)
        tables.connection.register("windows", windows)
        found = tables.connection.table(sofa_scores(tables.connection, records, "windows")).df()
    keys = ["stay_id", "window_start", "window_end"]
    slow = []
    for subject, group in windows.groupby("subject_id"):
        own = {name: rows[rows["subject_id"] == subject] for name, rows in source.items()}
        for _, window in group.iterrows():
            slow.append(slow_points(window, own) | window[keys].to_dict())
    expected = pd.DataFrame(slow).set_index(keys).sort_index()[list(COMPARED)].astype(float)
    ours = found.set_index(keys).sort_index()[list(COMPARED)].astype(float)
    np.testing.assert_array_equal(ours.to_numpy(), expected.to_numpy())
    # The comparison is of something: each component has values without and with points.
    assert ours.notna().sum().min() > 50
    assert all({0, 1} <= set(ours[name].dropna()) for name in COMPARED)
