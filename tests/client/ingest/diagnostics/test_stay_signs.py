"""Wrong values and times of few stays among 400, as an ingest with hashed ids counts them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from client.data_quality.finding import QualityFinding
from client.data_quality.record_checks import find_in_record
from client.data_quality.report import check_folder
from common.data.cohort_folder import INGEST_FILE, read_cohort_record
from common.data.site_table import read_site_table
from tests.client.ingest.hospital import long_mapping, write_rows
from tests.client.ingest.hospital import run as ingest

STAYS, HOURS = 400, 40
Row = tuple[str, int, datetime, str, str]
"""Patient, hour of the stay, time, code, value."""


def clean_rows() -> list[Row]:
    """Hourly heart rates, and temperatures every four hours, of stays that begin at any minute."""
    rng = np.random.default_rng(0)
    rows = []
    for number in range(STAYS):
        start = datetime(2024, 3, 20) + timedelta(minutes=int(rng.integers(0, 20_000)))  # noqa: DTZ001
        rates = rng.normal(85, 5, HOURS)
        for hour in range(HOURS):
            time = start + timedelta(hours=hour)
            rows.append((f"p{number}", hour, time, "HR", f"{rates[hour]:.1f}"))
            if hour % 4 == 0:
                rows.append((f"p{number}", hour, time, "T", f"{rng.normal(37, 0.3):.1f}"))
    return rows


def fahrenheit(row: Row) -> Row:
    patient, hour, time, code, value = row
    return (patient, hour, time, code, f"{float(value) * 1.8 + 32:.1f}") if code == "T" else row


def moved(row: Row, time: datetime) -> Row:
    return (*row[:2], time, *row[3:])


def dates_alone(row: Row) -> Row:
    return moved(row, row[2].replace(hour=0, minute=0))


def day_at_its_end(row: Row) -> Row:
    hour = row[1]
    return moved(row, row[2] + timedelta(hours=30 - hour)) if 8 <= hour < 30 else row


def set_back(row: Row) -> Row:
    return moved(row, row[2] - timedelta(hours=5)) if row[1] >= 20 else row


def years_later(row: Row) -> Row:
    return moved(row, row[2] + timedelta(days=731)) if row[1] >= 20 else row


def days_later(row: Row) -> Row:
    return moved(row, row[2] + timedelta(days=7)) if row[1] >= 20 else row


def day_zero(row: Row) -> Row:
    return moved(row, datetime(1970, 1, 1)) if row[1] == 0 else row  # noqa: DTZ001


def findings_of(
    folder: Path, rows: list[Row], spoil: Callable[[Row], Row], **mapping: Any
) -> dict[str, QualityFinding]:
    """Ingest the rows, each spoiled, and return the findings of check by code."""
    table = [
        (patient, f"s-{patient}", f"{time:%Y-%m-%d %H:%M}", code, value, "")
        for patient, _, time, code, value in map(spoil, rows)
    ]
    settings = long_mapping(folder, more="[ids]\nhash = true\n", **mapping)
    record = ingest(settings, [write_rows(folder / "t.csv", table)], folder / "out")
    (report,) = check_folder(folder / "out")
    assert set(find_in_record(record)) <= set(report.findings)
    return {finding.code: finding for finding in report.findings}


SPOILT = (
    fahrenheit,
    dates_alone,
    day_at_its_end,
    set_back,
    years_later,
    days_later,
    day_zero,
)
"""Each spoils three stays: the first of them p0, p100 and p200, the next p1, p101 and p201."""


def spoil_each(row: Row) -> Row:
    number = int(row[0][1:])
    kind = number % 100
    return SPOILT[kind](row) if number < 300 and kind < len(SPOILT) else row


@pytest.fixture(scope="module")
def spoilt(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, QualityFinding]]:
    folder = tmp_path_factory.mktemp("spoilt")
    # A local midnight is another hour of UTC, and the clocks change within these weeks.
    return folder / "out", findings_of(folder, ROWS, spoil_each, zone="Europe/Berlin")


@pytest.mark.parametrize(
    ("code", "stays", "remedy"),
    [
        ("stay-other-unit", 3, 'units = ["degC", "degF"] in [vitals.temperature_c]'),
        ("midnight", 3, "[columns] time"),
        ("day-in-hour", 3, "[columns] time"),
        ("clock-set-back", 3, "fold in [time]"),
        ("stay-time-jump", 3, "gap-hours in [stay]"),
        ("zero-date", 3, "[drop]"),
        # A stay that begins at day zero is too long as well.
        ("stay-too-long", 6, "max-days in [stay]"),
    ],
)
def test_three_stays_of_four_hundred_are_found(
    spoilt: tuple[Path, dict[str, QualityFinding]], code: str, stays: int, remedy: str
) -> None:
    folder, found = spoilt
    finding = found[code]
    assert finding.severity == "warning"
    assert remedy in finding.remedy
    numbers = finding.concerned
    assert numbers is not None
    is_left_out = code in ("stay-too-long", "zero-date")
    assert (numbers.stays, numbers.of) == (stays, STAYS if is_left_out else STAYS - 6)
    assert f"in {stays} of {numbers.of} " in finding.what
    assert numbers.value_count >= 3
    frame = read_site_table(folder / "sites" / "st-mary.parquet").frame
    assert numbers.example == "" if is_left_out else numbers.example in set(frame["stay_id"])


def test_the_record_has_no_id_of_the_hospital(
    spoilt: tuple[Path, dict[str, QualityFinding]],
) -> None:
    text = (spoilt[0] / INGEST_FILE).read_text()
    assert not [number for number in range(STAYS) if f"s-p{number}" in text]


def test_clean_stays_have_no_sign(tmp_path: Path) -> None:
    found = findings_of(tmp_path, ROWS, lambda row: row, zone="Europe/Berlin")
    assert not [code for code, finding in found.items() if finding.concerned]
    assert read_cohort_record(tmp_path / "out", INGEST_FILE)["signs"]["by_stay"] == []


def test_a_code_in_another_unit_gets_a_source_of_its_own(tmp_path: Path) -> None:
    """One device of few stays, whose values are possible in the unit of the others."""
    rows = [(*row[:3], "ART-S", "118") if row[3] == "T" else row for row in ROWS]
    found = findings_of(
        tmp_path,
        rows,
        lambda row: (
            (*row[:3], "CUFF-S", "16.1") if row[3] == "ART-S" and row[0][-2:] == "99" else row
        ),
    )
    finding = found["stay-other-unit"]
    assert "Systolic blood pressure (CUFF-S) looks like kPa in 4 of 400 stays" in finding.what
    assert 'give CUFF-S a source of its own, sources = [{ ..., unit = "kPa" }' in finding.remedy


def test_a_device_without_a_time_of_day_is_found(tmp_path: Path) -> None:
    """Its few values are at midnight among many right ones."""
    often = [(*row[:3], "T", f"{36 + row[1] / 100}") for row in ROWS[:2000] if row[1] % 2]
    rows = [*ROWS[:2000], *often]
    found = findings_of(
        tmp_path, rows, lambda row: dates_alone(row) if row[0] == "p3" and row[3] == "T" else row
    )
    numbers = found["midnight"].concerned
    assert numbers is not None
    assert numbers.stays == 1


def test_the_day_zero_of_most_patients_is_their_admission(tmp_path: Path) -> None:
    rows = [moved(row, row[2].replace(year=1970, month=1, day=1)) for row in ROWS[:3000]]
    assert "zero-date" not in findings_of(tmp_path, rows, lambda row: row)


def test_values_of_another_day_than_the_stay_are_found(tmp_path: Path) -> None:
    rows = [(*row[:2], row[2], *row[3:]) for row in ROWS[:3000]]
    admissions = {row[0]: row[2] for row in reversed(rows)}
    table = [
        (
            patient,
            f"s-{patient}",
            f"{time - timedelta(days=3 if patient == 'p7' and hour > 20 else 0):%Y-%m-%d %H:%M}",
            code,
            value,
            "",
            f"{admissions[patient]:%Y-%m-%d %H:%M}",
        )
        for patient, hour, time, code, value in rows
    ]
    header = ("pid", "enc", "at", "what", "result", "unit", "admitted")
    mapping = long_mapping(tmp_path, stay='id = "enc"\nstart = "admitted"')
    record = ingest(mapping, [write_rows(tmp_path / "t.csv", table, header)], tmp_path / "out")
    found = {finding.code: finding for finding in find_in_record(record)}
    numbers = found["stay-outside"].concerned
    assert numbers is not None
    assert (numbers.stays, numbers.example) == (1, "s-p7")


ROWS = clean_rows()
