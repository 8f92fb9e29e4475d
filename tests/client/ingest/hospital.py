"""A small hospital's tables and mappings, for the tests of the ingest."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from client.ingest.mapping.site_mapping import SiteMapping, read_mapping
from client.ingest.pipeline.pipeline import ingest_tables

LONG = """
site = "st-mary"
shape = "long"
[columns]
patient = "pid"
time = "at"
code = "what"
value = "result"
unit = "unit"
[time]
zone = "{zone}"
[stay]
{stay}
[cohort]
rule = "all"
min-hours = {min_hours}
[vitals.heart_rate]
codes = ["HR"]
[vitals.sbp]
combine = "priority"
sources = [{{codes = ["ART-S"]}}, {{codes = ["NBP-S", "CUFF-S"]}}]
[vitals.temperature_c]
codes = ["T"]
"""

HEADER = ("pid", "enc", "at", "what", "result", "unit")


def long_mapping(
    folder: Path,
    *,
    zone: str = "UTC",
    stay: str = 'id = "enc"',
    min_hours: float = 0,
    more: str = "",
    replaced: Mapping[str, str] | None = None,
) -> SiteMapping:
    """Write and read a mapping of a long table."""
    text = LONG.format(zone=zone, stay=stay, min_hours=min_hours) + more
    for old, new in (replaced or {}).items():
        assert old in text
        text = text.replace(old, new)
    folder.mkdir(exist_ok=True)
    path = folder / "mapping.toml"
    path.write_text(text, encoding="utf-8")
    return read_mapping(path)


def write_rows(path: Path, rows: Iterable[Sequence[Any]], header: Sequence[str] = HEADER) -> Path:
    """Write a CSV file."""
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([header, *rows])
    return path


def run(mapping: SiteMapping, tables: Sequence[Path], out: Path, **options: Any) -> dict[str, Any]:
    """Ingest with a secret beside the folder."""
    return ingest_tables(mapping, tables, out, secret=out.parent / "secret", **options)


def hours_of(patient: str, stay: str, values: Mapping[int, str], code: str = "HR") -> list[Any]:
    """Rows of one code, a value at some hours of the first of March 2024."""
    return [
        (patient, stay, f"2024-03-{1 + hour // 24:02d} {hour % 24:02d}:00", code, value, "")
        for hour, value in values.items()
    ]
