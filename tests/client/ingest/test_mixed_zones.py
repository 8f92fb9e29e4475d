"""Texts with offsets, zones and neither in one column, on both days of a change of clocks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from common.data.site_table import read_site_table
from tests.client.ingest.hospital import long_mapping, run, write_rows

AUTUMN = [
    # 2024-10-27 in London: 01:30 is twice, an hour apart.
    ("2024-10-27T00:30:00Z", 0),
    ("2024-10-27T01:30:00+01:00", 0),
    ("2024-10-27 01:30:00", None),
    ("2024-10-27T01:30:00+00:00", 1),
    ("2024-10-27T01:30:00+00:00[Europe/London]", 1),
    ("2024-10-27 01:30:00 UTC", 1),
    ("2024-10-27 02:30:00", 2),
    ("2024-10-27 02:30:00 Europe/London", 2),
    ("2024-10-27T03:30:00 +0100", 2),
]
SPRING = [
    # 2024-03-31 in London: 01:30 is in no clock's day.
    ("2024-03-31T00:30:00z", 0),
    ("2024-03-31 00:30:00", 0),
    ("2024-03-31 01:30:00", None),
    ("2024-03-31T01:30:00Z", 1),
    ("2024-03-31 02:30:00", 1),
    ("2024-03-31T02:30:00+01:00", 1),
]


@pytest.mark.parametrize(("times", "lost"), [(AUTUMN, "ambiguous hour"), (SPRING, "skipped hour")])
def test_each_text_is_read_by_its_own_zone(
    tmp_path: Path, times: list[tuple[str, int | None]], lost: str
) -> None:
    rows: list[Any] = [
        ("a", "1", text, "HR", str(60 + place), "") for place, (text, _) in enumerate(times)
    ]
    mapping = long_mapping(tmp_path, zone="Europe/London")
    record = run(mapping, [write_rows(tmp_path / "t.csv", rows)], tmp_path / "out")
    assert record["measurements"]["heart_rate"] == {
        "read": len(times),
        lost: 1,
        "used": len(times) - 1,
    }
    frame = read_site_table(tmp_path / "out" / "sites" / "st-mary.parquet").frame
    for step, mean in enumerate(frame["heart_rate"]):
        values = [60 + place for place, (_, hour) in enumerate(times) if hour == step]
        assert mean == pytest.approx(sum(values) / len(values))


@pytest.mark.parametrize(
    "text", ["2024-07-01 10:00:00 BST", "2024-07-01 10:00 Europe/Berlin", "2024-07-01 10:00 NZ"]
)
def test_another_zones_name_is_no_time(tmp_path: Path, text: str) -> None:
    rows = [("a", "1", text, "HR", "80", ""), ("a", "1", "2024-07-01 09:00", "HR", "80", "")]
    mapping = long_mapping(tmp_path, zone="Europe/London")
    record = run(mapping, [write_rows(tmp_path / "t.csv", rows)], tmp_path / "out")
    assert record["measurements"]["heart_rate"] == {"read": 2, "no time": 1, "used": 1}


def test_a_date_alone_is_local(tmp_path: Path) -> None:
    # Its day looks like an offset.
    rows = [("a", "1", text, "HR", "80", "") for text in ("2024-07-01", "2024-06-30T23:00:00Z")]
    mapping = long_mapping(tmp_path, zone="Europe/London")
    run(mapping, [write_rows(tmp_path / "t.csv", rows)], tmp_path / "out")
    frame = read_site_table(tmp_path / "out" / "sites" / "st-mary.parquet").frame
    assert len(frame) == 1


def test_patterns_with_and_without_an_offset_go_together(tmp_path: Path) -> None:
    formats = '["%d.%m.%Y %H:%M", "%d.%m.%Y %H:%M %z"]'
    texts = ("27.10.2024 01:30 +0100", "27.10.2024 01:30 +0000", "27.10.2024 02:30")
    rows = [("a", "1", text, "HR", "80", "") for text in texts]
    zone = 'zone = "Europe/London"'
    mapping = long_mapping(
        tmp_path, zone="Europe/London", replaced={zone: f"{zone}\nformat = {formats}"}
    )
    run(mapping, [write_rows(tmp_path / "t.csv", rows)], tmp_path / "out")
    frame = read_site_table(tmp_path / "out" / "sites" / "st-mary.parquet").frame
    assert frame["heart_rate"].notna().tolist() == [True, True, True]
