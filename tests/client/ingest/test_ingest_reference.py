# ruff: noqa: DTZ001, DTZ007  (local times have no zone of their own)
"""The ingest against a slow obvious one, and what must not change its outcome."""

from __future__ import annotations

import math
import random
import shutil
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal
from zoneinfo import ZoneInfo

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from client.ingest.reshape.drop_reasons import UNREADABLE
from common.data.site_table import read_site_table
from common.data.vitals import VITAL_NAMES, VITALS
from common.errors import CohortError, SourceError, UsageError
from tests.client.ingest.hospital import HEADER, long_mapping, run, write_rows

ZONE = "Europe/London"
VITAL_OF = {"HR": ("heart_rate", 0), "T": ("temperature_c", 0), "ART-S": ("sbp", 0)}
VITAL_OF |= {"NBP-S": ("sbp", 1), "CUFF-S": ("sbp", 1)}
STAYS = {"id": 'id = "enc"\nper-patient = true', "gap": "gap-hours = 3"}

Row = tuple[str, str, str, str, str, str]

rows_strategy = st.lists(
    st.tuples(
        st.sampled_from(["a", "b", ""]),
        st.sampled_from(["1", "2"]),
        st.builds(
            lambda day, minute: (day + timedelta(minutes=minute)).strftime("%Y-%m-%d %H:%M"),
            st.sampled_from([datetime(2024, 3, 31), datetime(2024, 10, 27)]),
            st.integers(0, 40).map(lambda n: n * 10),
        )
        | st.just("soon"),
        st.sampled_from([*VITAL_OF, "weight"]),
        st.sampled_from(
            ["80", "81.5", "16", "98.6", "37", "120", "400", "-3", "0", "<0.5", "nan", ""]
        ),
        st.sampled_from(["", "", "bpm", "mmHg", "kPa", "°F", "stone"]),
    ),
    max_size=80,
)


def converted(value: float, vital: str, unit: str) -> float | None:
    """The value in the site table's unit; None for a unit that the vital does not have."""
    own = {"heart_rate": "bpm", "sbp": "mmHg", "temperature_c": "°C"}[vital]
    if unit in ("", own):
        return value
    if vital == "sbp" and unit == "kPa":
        return value * 1000 / 133.322387415
    if vital == "temperature_c" and unit == "°F":
        return (value - 32) / 1.8
    return None


def as_utc(text: str) -> datetime | None:
    """The moment of a local time; None in the hour that comes twice or never."""
    try:
        local = datetime.strptime(text, "%Y-%m-%d %H:%M")
    except ValueError:
        return None
    zone = ZoneInfo(ZONE)
    both = {local.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1)}
    return both.pop() if len(both) == 1 else None


def good_rows(rows: list[Row]) -> Iterator[tuple[str, str, datetime, str, int, float]]:
    """The measurements that count, each once: patient, stay, time, vital, rank, value."""
    seen = set()
    for patient, stay, text, code, value, unit in rows:
        at = as_utc(text)
        if not patient or at is None or code not in VITAL_OF:
            continue
        vital, rank = VITAL_OF[code]
        try:
            number = converted(float(value), vital, unit)
        except ValueError:
            continue
        (limits,) = (one for one in VITALS if one.name == vital)
        is_possible = number is not None and limits.low < number < limits.high
        if number is None or math.isnan(number) or not is_possible:
            continue
        key = (patient, stay, at, code, round(number, 6))
        if key not in seen:
            seen.add(key)
            yield patient, stay, at, vital, rank, number


def by_stay(rows: list[Row], stays_by: str) -> dict[tuple[str, str], list[Any]]:
    """The measurements of each stay: time, vital, rank, value."""
    found: dict[tuple[str, str], list[Any]] = defaultdict(list)
    if stays_by == "id":
        for patient, stay, at, vital, rank, number in good_rows(rows):
            found[patient, f"{patient}-{stay}"].append((at, vital, rank, number))
        return found
    numbers: dict[str, int] = defaultdict(int)
    previous: dict[str, datetime] = {}
    for patient, _, at, vital, rank, number in sorted(good_rows(rows), key=lambda row: row[2]):
        if patient not in previous or at - previous[patient] > timedelta(hours=3):
            numbers[patient] += 1
        previous[patient] = at
        found[patient, f"{patient}-{numbers[patient]}"].append((at, vital, rank, number))
    return found


def mean_of_step(found: list[Any]) -> float:
    """The mean of the most trusted source, of times, of values at a time."""
    best = min(rank for _, rank, _ in found)
    at_time: dict[datetime, list[float]] = defaultdict(list)
    for at, rank, number in found:
        if rank == best:
            at_time[at].append(number)
    means = [sum(values) / len(values) for values in at_time.values()]
    return sum(means) / len(means)


def reference(rows: list[Row], stays_by: str) -> dict[tuple[str, str, int], dict[str, float]]:
    """The means by patient, stay and hour, in plain loops."""
    means: dict[tuple[str, str, int], dict[str, float]] = defaultdict(dict)
    for (patient, stay), measurements in by_stay(rows, stays_by).items():
        start = min(at for at, *_ in measurements)
        steps: dict[tuple[int, str], list[Any]] = defaultdict(list)
        for at, vital, rank, number in measurements:
            step = int((at - start).total_seconds() // 3600)
            steps[step, vital].append((at, rank, number))
        for (step, vital), found in steps.items():
            means[patient, stay, step][vital] = mean_of_step(found)
    return means


@contextmanager
def scratch() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="fedvitals-test-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def table_of(folder: Path) -> pd.DataFrame:
    return read_site_table(folder / "sites" / "st-mary.parquet").frame


@pytest.mark.slow
@settings(max_examples=15)  # an example is an ingest, whose cost hardly depends on its rows
@given(rows_strategy, st.sampled_from(sorted(STAYS)))
def test_the_means_are_those_of_plain_loops(rows: list[Row], stays_by: str) -> None:
    if stays_by == "gap":
        rows = [(row[0], "1", *row[2:]) for row in rows]
    expected = reference(rows, stays_by)
    with scratch() as folder:
        mapping = long_mapping(folder, zone=ZONE, stay=STAYS[stays_by])
        path = write_rows(folder / "t.csv", rows)
        if not expected:
            with pytest.raises((CohortError, SourceError, UsageError)):
                run(mapping, [path], folder / "out")
            return
        record = run(mapping, [path], folder / "out")
        frame = table_of(folder / "out").set_index(["patient_id", "stay_id", "step"])
    observed = frame[frame.notna().any(axis=1)]
    vitals = observed[list(VITAL_NAMES)]
    found = {key: row.dropna().to_dict() for key, row in vitals.iterrows() if row.notna().any()}
    assert set(found) == set(expected)
    for key, means in expected.items():
        assert found[key] == pytest.approx(means, rel=1e-6), key
    for vital in VITALS:
        values = frame[vital.name].dropna().to_numpy()
        assert vital.valid(values).all()
    for counts in record["measurements"].values():
        assert counts["read"] == sum(n for what, n in counts.items() if what != "read")


@pytest.mark.slow
@settings(max_examples=8)
@given(rows_strategy, st.sampled_from(sorted(STAYS)), st.randoms(use_true_random=False))
def test_order_format_and_duplicates_change_nothing(
    rows: list[Row], stays_by: str, rng: random.Random
) -> None:
    rows = [*rows, ("a", "1", "2024-03-31 05:00", "HR", "80", "")]
    with scratch() as folder:
        mapping = long_mapping(folder, zone=ZONE, stay=STAYS[stays_by])
        first = run(mapping, [write_rows(folder / "t.csv", rows)], folder / "first")
        shuffled = rows + [row for row in rows if rng.random() < 0.5]
        rng.shuffle(shuffled)
        cut = rng.randrange(len(shuffled) + 1)
        frame = (
            pd.DataFrame(shuffled[cut:], columns=list(HEADER)).replace("", None).astype("string")
        )
        frame.to_parquet(folder / "t.parquet")
        parts = [write_rows(folder / "part.csv", shuffled[:cut]), folder / "t.parquet"]
        second = run(mapping, parts, folder / "second")
        tables = [folder / name / "sites" / "st-mary.parquet" for name in ("first", "second")]
        assert tables[0].read_bytes() == tables[1].read_bytes()
    assert first["flow"] == second["flow"]
    for vital, counts in first["measurements"].items():
        again = second["measurements"][vital]
        # A copy is a duplicate, or, where its row cannot be read, one more of those.
        more = {why: n - counts.get(why, 0) for why, n in again.items()}
        assert more.pop("read") == sum(more.values())
        assert {why for why, n in more.items() if n} <= {"duplicate", *UNREADABLE}


def test_typed_parquet_columns_give_the_bytes_of_their_texts(tmp_path: Path) -> None:
    rows = [
        ("1", "7", f"2024-03-01 {hour:02d}:{minute:02d}", "T", f"{36 + minute / 60:.1f}", "")
        for hour in range(24)
        for minute in (0, 20, 40)
    ]
    mapping = long_mapping(tmp_path, zone=ZONE)
    run(mapping, [write_rows(tmp_path / "t.csv", rows)], tmp_path / "text")
    frame = pd.DataFrame(rows, columns=list(HEADER))
    frame["pid"] = frame["pid"].astype("int64")
    frame["enc"] = frame["enc"].astype("int32")
    frame["at"] = pd.to_datetime(frame["at"])
    for number in ("float32", "float64"):
        frame.assign(result=frame["result"].astype(number)).to_parquet(tmp_path / "t.parquet")
        run(mapping, [tmp_path / "t.parquet"], tmp_path / number)
        tables = [tmp_path / name / "sites" / "st-mary.parquet" for name in ("text", number)]
        assert tables[0].read_bytes() == tables[1].read_bytes()


@pytest.mark.parametrize("kind", ["float16", "float32", "float64", "decimal256", "dictionary"])
def test_numbers_of_every_width_are_read_from_parquet(tmp_path: Path, kind: str) -> None:
    texts = [str(60 + hour) for hour in range(24)]
    rows = [("1", "7", f"2024-03-01 {h:02d}:00", "HR", text, "") for h, text in enumerate(texts)]
    mapping = long_mapping(tmp_path)
    run(mapping, [write_rows(tmp_path / "t.csv", rows)], tmp_path / "text")
    table = pa.Table.from_pandas(pd.DataFrame(rows, columns=list(HEADER)))
    numbers = pa.array([float(text) for text in texts])
    held = {
        "float16": numbers.cast(pa.float16()),
        "float32": numbers.cast(pa.float32()),
        "float64": numbers,
        "decimal256": pa.array([Decimal(text) for text in texts], pa.decimal256(50, 0)),
        "dictionary": pa.array(texts).dictionary_encode(),
    }[kind]
    # One is read, the other is beside it.
    table = table.set_column(table.column_names.index("result"), "result", held)
    pq.write_table(table.append_column("other", held), tmp_path / "t.parquet")
    run(mapping, [tmp_path / "t.parquet"], tmp_path / kind)
    tables = [tmp_path / name / "sites" / "st-mary.parquet" for name in ("text", kind)]
    assert tables[0].read_bytes() == tables[1].read_bytes()


@pytest.mark.parametrize("number", ["float32", "float64"])
def test_floating_codes_ids_and_marks_are_those_of_their_whole_numbers(
    tmp_path: Path, number: Literal["float32", "float64"]
) -> None:
    rows = [
        ("1", "7", f"2024-03-01 {hour:02d}:{minute:02d}", "220045", f"{70 + minute}", str(mark))
        for hour in range(24)
        for minute, mark in ((0, 0), (20, 1), (40, ""))
    ]
    header = ("pid", "enc", "at", "what", "result", "wrong")
    mapping = long_mapping(
        tmp_path,
        more="[drop]\nwrong = [1]\n",
        replaced={'unit = "unit"\n': "", 'codes = ["HR"]': "codes = [220045]"},
    )
    first = run(mapping, [write_rows(tmp_path / "t.csv", rows, header)], tmp_path / "text")
    frame = pd.DataFrame(rows, columns=list(header))
    for name in ("pid", "enc", "what", "wrong"):
        # As pandas holds whole numbers, of which some are missing.
        frame[name] = pd.to_numeric(frame[name]).astype(number)
    frame.to_parquet(tmp_path / "t.parquet")
    second = run(mapping, [tmp_path / "t.parquet"], tmp_path / number)
    assert first["measurements"] == second["measurements"]
    assert second["measurements"]["heart_rate"]["left out by a drop rule"] == 24
    tables = [tmp_path / name / "sites" / "st-mary.parquet" for name in ("text", number)]
    assert tables[0].read_bytes() == tables[1].read_bytes()
