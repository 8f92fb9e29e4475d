from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from common.errors import UsageError
from tests.client.ingest.hospital import HEADER, long_mapping, run, write_rows

DMY, MDY = "%d/%m/%Y %H:%M", "%m/%d/%Y %H:%M"
DAYS = [datetime(2024, month, day, 10) for month in (1, 2, 3) for day in range(1, 29)]  # noqa: DTZ001


def rows_of(write: Callable[[int, datetime], str], days: list[datetime] = DAYS) -> list[Any]:
    """A heart rate a day, each of a stay of its own."""
    return [(f"p{n}", f"s{n}", write(n, day), "HR", "80", "") for n, day in enumerate(days)]


def ingest(folder: Path, rows: list[Any], time_format: str) -> dict[str, Any]:
    mapping = long_mapping(
        folder, replaced={'zone = "UTC"': f'zone = "UTC"\nformat = "{time_format}"'}
    )
    return run(mapping, [write_rows(folder / "t.csv", rows)], folder / "out")


@pytest.mark.parametrize(
    ("write", "given", "message"),
    [
        (lambda n, day: day.strftime(DMY), "iso", f'set format = "{DMY}"'),
        (lambda n, day: day.strftime(DMY), MDY, f'exchanged; set format = "{DMY}"'),
        (lambda n, day: day.strftime(MDY), DMY, f'exchanged; set format = "{MDY}"'),
        (
            lambda n, day: day.strftime("%Y-%d-%m %H:%M"),
            "iso",
            'exchanged; set format = "%Y-%d-%m %H:%M"',
        ),
        (lambda n, day: day.strftime(DMY if n % 2 else MDY), DMY, "in both orders"),
        (lambda n, day: "soon", "iso", "reads none of 84 times, e.g. 'soon'; describe them"),
        (lambda n, day: f"{int(day.timestamp())}000000000", "iso", 'set format = "epoch-ns"'),
    ],
)
def test_a_format_that_misreads_stops(
    tmp_path: Path, write: Callable[[int, datetime], str], given: str, message: str
) -> None:
    with pytest.raises(UsageError) as caught:
        ingest(tmp_path, rows_of(write), given)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_the_order_is_asked_for_where_the_times_do_not_show_it(tmp_path: Path) -> None:
    early = [day for day in DAYS if day.day <= 12]
    rows = rows_of(lambda _, day: day.strftime(DMY), early)
    with pytest.raises(UsageError) as caught:
        ingest(tmp_path, rows, "iso")
    assert (
        f'is \'01/02/2024 10:00\' 1 February, format = "{DMY}", or 2 January, format = "{MDY}"?'
    ) in str(caught.value)
    # Given a format, it is believed, and the doubt is told.
    (sign,) = ingest(tmp_path, rows, DMY)["signs"]["times"]
    assert (sign["kind"], sign["formats"]) == ("order", [[DMY], [MDY]])
    assert sign["example"] == "02/01/2024 10:00"


def test_a_few_texts_that_are_no_time_are_a_loss_only(tmp_path: Path) -> None:
    rows = rows_of(lambda n, day: "soon" if n == 20 else day.strftime(DMY))
    record = ingest(tmp_path, rows, DMY)
    (sign,) = record["signs"]["times"]
    assert (sign["kind"], sign["count"], sign["of"]) == ("unread", 1, 84)
    assert record["measurements"]["heart_rate"] == {"read": 84, "no time": 1, "used": 83}


@pytest.mark.parametrize("in_rows", [True, False])
def test_the_bounds_of_stays_are_checked_too(tmp_path: Path, in_rows: bool) -> None:
    rows = rows_of(lambda _, day: day.strftime("%Y-%m-%d %H:%M"))
    bounds = [(day - timedelta(hours=2)).strftime(DMY) for day in DAYS]
    stay = 'id = "enc"\nstart = "admitted"\ntime = { zone = "UTC", format = "%m/%d/%Y %H:%M" }'
    if in_rows:
        table = [(*row, bound) for row, bound in zip(rows, bounds, strict=True)]
        path = write_rows(tmp_path / "t.csv", table, (*HEADER, "admitted"))
    else:
        stays = [(row[0], row[1], bound) for row, bound in zip(rows, bounds, strict=True)]
        write_rows(tmp_path / "stays.csv", stays, ("pid", "enc", "admitted"))
        path, stay = write_rows(tmp_path / "t.csv", rows), f'table = "stays.csv"\n{stay}'
    with pytest.raises(UsageError, match=r"\[stay\] time, format \(column admitted\).*exchanged"):
        run(long_mapping(tmp_path, stay=stay), [path], tmp_path / "out")
