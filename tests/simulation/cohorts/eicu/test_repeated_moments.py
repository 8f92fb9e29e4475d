from __future__ import annotations

import resource
import threading
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from common.errors import SourceError
from simulation.cohorts.eicu.repeated_moments import RepeatedMoments

SCHEMA = pa.schema(
    [
        ("patientunitstayid", pa.int32()),
        ("observationoffset", pa.int32()),
        ("heartrate", pa.float32()),
    ]
)
YEARS = 2_000_000
UNTIL = np.array([600, -1, YEARS, -1])


def batch(stays: list[int], minutes: list[int]) -> tuple[pa.RecordBatch, np.ndarray]:
    values = [80.0 + number for number in range(len(stays))]
    rows = pa.RecordBatch.from_pydict(
        dict(zip(SCHEMA.names, (stays, minutes, values), strict=True)), SCHEMA
    )
    return rows, np.array(stays, np.int64)


def candidates(moments: RepeatedMoments) -> Counter[tuple[int, int]]:
    frame = pd.concat(rows.to_pandas() for rows in moments.candidates())
    return Counter(zip(frame["patientunitstayid"], frame["observationoffset"], strict=True))


def test_rows_of_repeated_moments_are_found_across_batches(tmp_path: Path) -> None:
    with RepeatedMoments(UNTIL, SCHEMA, tmp_path) as moments:
        moments.add(*batch([0, 0, 2], [0, 5, 0]))
        moments.add(*batch([], []))
        moments.add(*batch([2, 0], [5, 5]))
        moments.add(*batch([2, 2], [600, 600]))
        assert candidates(moments) == {(0, 5): 2, (2, 600): 2}
    assert list(tmp_path.iterdir()) == []


def test_more_copies_than_a_byte_counts(tmp_path: Path) -> None:
    with RepeatedMoments(UNTIL, SCHEMA, tmp_path) as moments:
        for _ in range(256):
            moments.add(*batch([0], [7]))
        moments.add(*batch([0] * 256, [77] * 256))
        assert candidates(moments) == {(0, 7): 256, (0, 77): 256}


def test_moments_of_a_stay_of_years_stay_in_its_own_slots(tmp_path: Path) -> None:
    with RepeatedMoments(UNTIL, SCHEMA, tmp_path) as moments:
        moments.add(*batch([2, 0], [YEARS, 600]))
        moments.add(*batch([2], [YEARS]))
        assert candidates(moments) == {(2, YEARS): 2}


def test_no_row_is_lost_between_threads(tmp_path: Path) -> None:
    parts = [batch([2] * 2000, list(range(0, 10_000, 5))) for _ in range(8)]
    with RepeatedMoments(UNTIL, SCHEMA, tmp_path) as moments:
        threads = [threading.Thread(target=moments.add, args=part) for part in parts]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert set(candidates(moments).values()) == {8}


def test_a_full_disk_is_one_line(tmp_path: Path) -> None:
    rows = batch([0] * 50_000, list(range(50_000)))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with RepeatedMoments(np.array([50_000]), SCHEMA, tmp_path) as moments:
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
        try:
            with pytest.raises(SourceError, match="make room there"):
                moments.add(*rows)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
