"""Small made-up MEDS data, with a table of codes."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

START = datetime.fromisoformat("2150-06-10 00:30")
HEART_RATE = "LAB//220045//bpm"
MICU = "Medical Intensive Care Unit (MICU)"

Event = tuple[int, datetime | None, str, float | None]


def after(hours: float) -> datetime:
    """The time so many hours after `START`."""
    return START + timedelta(hours=hours)


def stay(subject: int, start: float = 0, end: float = 48, unit: str = MICU) -> list[Event]:
    """Admission and discharge."""
    return [
        (subject, after(start), f"ICU_ADMISSION//{unit}", None),
        (subject, after(end), f"ICU_DISCHARGE//{unit}", None),
    ]


def rates(subject: int, start: float = 0, hours: int = 24) -> list[Event]:
    """A heart rate of 80 in each hour."""
    return [(subject, after(start + hour + 0.25), HEART_RATE, 80.0) for hour in range(hours)]


def write_shard(path: Path, events: Sequence[Event], value: str = "numeric_value") -> Path:
    columns = {
        "subject_id": pa.array([event[0] for event in events], pa.int64()),
        "time": pa.array([event[1] for event in events], pa.timestamp("us")),
        "code": pa.array([event[2] for event in events], pa.string()),
        value: pa.array([event[3] for event in events], pa.float32()),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path)
    return path


def write_data(folder: Path, events: Sequence[Event]) -> Path:
    """A data set's folder with two shards and the metadata."""
    subjects = sorted({event[0] for event in events})
    for number, part in enumerate((subjects[::2], subjects[1::2])):
        rows = [event for event in events if event[0] in part]
        if rows:
            write_shard(folder / "data" / "train" / f"{number}.parquet", rows)
    metadata = folder / "metadata"
    metadata.mkdir(parents=True)
    pq.write_table(
        pa.table({"code": [HEART_RATE], "description": ["heart rate"]}), metadata / "codes.parquet"
    )
    return folder
