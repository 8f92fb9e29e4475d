# ruff: noqa: DTZ001  (local times have no zone of their own)
from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from client.ingest.mapping.clock import Clock
from client.ingest.timestamps import FOLD, GAP, time_of, zone_rows
from common.data.site_table import read_site_table
from common.errors import UsageError
from tests.client.ingest.hospital import long_mapping, run, write_rows

# With a fold of half an hour, changes at midnight, a day that never was, and two changes a month.
ZONES = (
    "Europe/London",
    "America/New_York",
    "Australia/Lord_Howe",
    "America/Sao_Paulo",
    "Pacific/Apia",
    "Africa/Casablanca",
    "Asia/Kathmandu",
)
EPOCH = datetime(1970, 1, 1)
US = timedelta(microseconds=1)


def utc_readings(local: datetime, zone: ZoneInfo) -> set[datetime]:
    """All moments at which a clock on the wall shows this time, by trying them out."""
    found = set()
    for minutes in range(-15 * 60, 15 * 60 + 1, 15):
        moment = (local + timedelta(minutes=minutes)).replace(tzinfo=UTC)
        if moment.astimezone(zone).replace(tzinfo=None) == local:
            found.add(moment.replace(tzinfo=None))
    return found


@settings(max_examples=80)
@given(
    st.sampled_from(ZONES),
    st.datetimes(datetime(2005, 1, 1), datetime(2045, 1, 1)).map(
        lambda at: at.replace(minute=at.minute // 15 * 15, second=0, microsecond=0)
    ),
)
def test_a_local_time_means_what_the_wall_clock_says(zone: str, local: datetime) -> None:
    check_reading(zone, local)


@pytest.mark.parametrize("zone", ZONES)
def test_every_quarter_hour_around_each_change(zone: str) -> None:
    for year in (2011, 2024):
        start = datetime(year, 1, 1)
        offsets = [
            (start + timedelta(hours=hour)).replace(tzinfo=UTC).astimezone(ZoneInfo(zone))
            for hour in range(366 * 24)
        ]
        changes = [
            after.replace(tzinfo=None)
            for before, after in itertools.pairwise(offsets)
            if before.utcoffset() != after.utcoffset()
        ]
        for change in changes:
            for quarter in range(-12, 13):
                check_reading(zone, change + timedelta(minutes=15 * quarter))


def check_reading(zone: str, local: datetime) -> None:
    at = (local - EPOCH) // US
    rows = zone_rows(Clock(zone=zone, fold="drop", gap="drop"), local.date(), local.date())
    covering = rows[(rows["from_us"] <= at) & (at < rows["until_us"])]
    assert len(covering) == 1, "each local time has one answer"
    piece = covering.iloc[0]
    assert piece["day"].date() == local.date()
    readings = sorted(utc_readings(local, ZoneInfo(zone)))
    assert piece["kind"] == {0: GAP, 1: 0, 2: FOLD}[len(readings)]
    if len(readings) == 1:
        assert EPOCH + (at - int(piece["offset_us"])) * US == readings[0]
    elif readings:
        assert [EPOCH + (at - int(piece[name])) * US for name in ("start_us", "end_us")] == readings


@pytest.mark.parametrize(
    ("fold", "gap", "kept"),
    [
        # 00:30 and 02:30 on the day on which 01:00 to 02:00 comes twice (27 October 2024), and on
        # the day on which it never comes (31 March): the first hour of each stay is 00:xx.
        ("drop", "drop", {"autumn": [0, 3], "spring": [0, 1]}),
        ("first", "drop", {"autumn": [0, 1, 3], "spring": [0, 1]}),
        ("second", "drop", {"autumn": [0, 2, 3], "spring": [0, 1]}),
        ("drop", "shift", {"autumn": [0, 3], "spring": [0, 1]}),
    ],
)
def test_the_odd_hours_of_london(
    tmp_path: Path, fold: str, gap: str, kept: dict[str, list[int]]
) -> None:
    days = {"autumn": "2024-10-27", "spring": "2024-03-31"}
    rows = [
        ("p", stay, f"{day} {hour:02d}:30", "HR", 80 + hour, "")
        for stay, day in days.items()
        for hour in (0, 1, 2)
    ]
    mapping = long_mapping(
        tmp_path,
        zone="Europe/London",
        replaced={
            'zone = "Europe/London"': f'zone = "Europe/London"\nfold = "{fold}"\ngap = "{gap}"'
        },
    )
    record = run(mapping, [write_rows(tmp_path / "t.csv", rows)], tmp_path / "out")
    frame = read_site_table(tmp_path / "out" / "sites" / "st-mary.parquet").frame
    for stay, steps in kept.items():
        observed = frame[(frame["stay_id"] == stay) & frame["heart_rate"].notna()]
        assert observed["step"].tolist() == steps, stay
    counts = record["measurements"]["heart_rate"]
    assert counts.get("ambiguous hour", 0) == (fold == "drop")
    assert counts.get("skipped hour", 0) == (gap == "drop")


def test_an_offset_in_a_text_is_applied_beside_local_times(tmp_path: Path) -> None:
    texts = [
        "2024-07-01 12:00",
        "2024-07-01T12:10+01:00",
        "2024-07-01 11:20Z",
        "2024-07-01 11:30+00",
    ]
    rows = [("p", "s", text, "HR", 80 + n, "") for n, text in enumerate(texts)]
    mapping = long_mapping(tmp_path, zone="Europe/London")
    run(mapping, [write_rows(tmp_path / "t.csv", rows)], tmp_path / "out")
    frame = read_site_table(tmp_path / "out" / "sites" / "st-mary.parquet").frame
    assert frame["heart_rate"].tolist() == [81.5]


def read(text: str, kind: str, clock: Clock) -> tuple[int | None, bool]:
    time = time_of("c", kind, clock)
    value = f"CAST({text!r} AS {kind})"
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        row = connection.execute(f"SELECT {time.at}, {time.is_utc} FROM (SELECT {value} AS c)")
        at, is_utc = row.fetchall()[0]
    return at, bool(is_utc)


NOON = 1_719_835_200_000_000  # 2024-07-01 12:00


@pytest.mark.parametrize(
    ("text", "kind", "formats", "expected"),
    [
        ("2024-07-01 12:00", "VARCHAR", ("iso",), (NOON, False)),
        ("2024-07-01T12:00:00.000", "VARCHAR", ("iso",), (NOON, False)),
        ("2024-07-01T13:00:00+01:00", "VARCHAR", ("iso",), (NOON, True)),
        ("2024-07-01 14:00:00+0200", "VARCHAR", ("iso",), (NOON, True)),
        ("2024-07-01 12:00Z", "VARCHAR", ("iso",), (NOON, True)),
        ("01.07.2024 12:00", "VARCHAR", ("%d.%m.%Y %H:%M",), (NOON, False)),
        ("01.07.2024", "VARCHAR", ("%d.%m.%Y %H:%M", "%d.%m.%Y"), (NOON - 43_200_000_000, False)),
        ("01.07.2024 13:00 +0100", "VARCHAR", ("%d.%m.%Y %H:%M %z",), (NOON, True)),
        ("1719835200", "VARCHAR", ("epoch-s",), (NOON, True)),
        ("1719835200", "BIGINT", ("epoch-s",), (NOON, True)),
        ("1719835200000", "BIGINT", ("epoch-ms",), (NOON, True)),
        ("1719835200000000", "BIGINT", ("epoch-us",), (NOON, True)),
        ("1719835200000000000", "BIGINT", ("epoch-ns",), (NOON, True)),
        ("1719835200000000000", "VARCHAR", ("epoch-ns",), (NOON, True)),
        ("1719835200", "VARCHAR", ("epoch",), (NOON, True)),
        ("1719835200000", "BIGINT", ("epoch",), (NOON, True)),
        ("1719835200000000", "BIGINT", ("epoch",), (NOON, True)),
        ("1719835200000000000", "BIGINT", ("epoch",), (NOON, True)),
        ("-86400", "BIGINT", ("epoch",), (-86_400_000_000, True)),
        ("45474.5", "VARCHAR", ("excel",), (NOON, False)),
        ("45474.5", "DOUBLE", ("excel",), (NOON, False)),
        ("2024-07-01 12:00", "TIMESTAMP", ("iso",), (NOON, False)),
        ("2024-07-01 13:00+01", "TIMESTAMP WITH TIME ZONE", ("iso",), (NOON, True)),
        ("2024-07-01", "DATE", ("iso",), (NOON - 43_200_000_000, False)),
    ],
)
def test_formats(
    text: str, kind: str, formats: tuple[str, ...], expected: tuple[int, bool]
) -> None:
    assert read(text, kind, Clock(zone="Europe/London", format=formats)) == expected


@pytest.mark.parametrize(
    "text", ["", "yesterday", "2024-02-30 10:00", "infinity", "0024-07-01 12:00"]
)
def test_what_is_no_time_is_none(text: str) -> None:
    assert read(text, "VARCHAR", Clock(zone="Europe/London"))[0] is None


def test_a_number_is_no_iso_time() -> None:
    with pytest.raises(UsageError, match="or one of: epoch-s, epoch-ms"):
        time_of("c", "BIGINT", Clock(zone="UTC"))
