"""SuggestedSection `[stay]` of a suggested mapping, and the table of stays among the files."""

from __future__ import annotations

import os
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import pyarrow.compute as pc

from client.ingest.suggest.column_roles import matching
from client.ingest.suggest.mapping_text import SuggestedSection, toml
from client.ingest.suggest.sample import Sample
from client.ingest.suggest.time_format import TimeGuess, guess_time


@dataclass(frozen=True)
class StayTable:
    """A file of stays.

    Attributes:
        sample: the file.
        patient: its column of patients.
        id: its column of stays; empty = none.
        start: its column of admissions.
        end: its column of discharges; empty = none.
        time: format of both.
    """

    sample: Sample
    patient: str
    id: str
    start: str
    end: str
    time: TimeGuess


def find_stay_table(samples: list[Sample], patient: str) -> StayTable | None:
    """Return the first file that has patients and admissions; None if none has.

    Args:
        samples: the files without the vital signs.
        patient: column of patients in the rows; empty = they have none.
    """
    for sample in samples:
        patients = [patient] if patient in sample.columns else matching(sample.columns, "patient")
        starts = matching(sample.columns, "start")
        if not (patient and patients and starts):
            continue
        time = _guess(sample, starts[0])
        if not time.is_sure:
            continue
        stays, ends = matching(sample.columns, "stay"), matching(sample.columns, "end")
        return StayTable(
            sample, patients[0], (stays or [""])[0], starts[0], (ends or [""])[0], time
        )
    return None


def stay_section(
    rows: Sample, role: dict[str, str], table: StayTable | None, time: TimeGuess, folder: Path
) -> SuggestedSection:
    """Return `[stay]`.

    Args:
        rows: the table of rows.
        role: its columns by role, empty where there is none.
        table: the file of stays, if there is one.
        time: format of the rows' times.
        folder: base of the table's path.
    """
    section = SuggestedSection("stay")
    if table is not None:
        _add_table(section, table, role, time, folder)
    elif role["stay"]:
        _add_column(section, rows, role)
    elif role["start"] and _guess(rows, role["start"]).is_sure:
        section.add("start", role["start"], "admission in the rows")
        if role["end"]:
            section.add("end", role["end"], "discharge in the rows")
        _add_clock(section, _guess(rows, role["start"]), time)
    else:
        why = "no column of stays is found: a day without values ends a stay"
        section.add("gap-hours", 24, why, sure=False)
    return section


def _add_table(
    section: SuggestedSection, table: StayTable, role: dict[str, str], time: TimeGuess, folder: Path
) -> None:
    section.add("table", os.path.relpath(table.sample.path, folder), "a row per stay")
    if table.patient != role["patient"]:
        section.add("patient", table.patient, "its column of patients")
    if table.id:
        section.add("id", table.id, "by its name")
    section.add("start", table.start, "admission")
    if table.end:
        section.add("end", table.end, "discharge")
    _add_clock(section, table.time, time)
    keys = [
        f"{key} = {value if key == 'header-row' else toml(value)}"
        for key, value, _ in table.sample.file_lines()
    ]
    if keys:
        section.add_raw(f"file = {{ {', '.join(keys)} }}", "its own format, not that of [file]")


def _add_clock(section: SuggestedSection, own: TimeGuess, of_rows: TimeGuess) -> None:
    if (own.formats, own.zone) != (of_rows.formats, of_rows.zone):
        clock = f"time = {{ zone = {toml(own.zone)}, format = {toml(list(own.formats))} }}"
        section.add_raw(clock, own.zone_why, sure=own.is_zone_sure)


def _add_column(section: SuggestedSection, rows: Sample, role: dict[str, str]) -> None:
    stay = role["stay"]
    if stay.lower() == "hadm_id":
        section.add("id", stay, "admissions to the hospital, not to the ICU", sure=False)
    else:
        section.add("id", stay, "by its name")
    if role["patient"] and _is_per_patient(rows, role["patient"], stay):
        section.add("per-patient", True, "the same ids occur with several patients")


def _is_per_patient(rows: Sample, patient: str, stay: str) -> bool:
    """Return whether most stay ids occur with more than one patient, as 1, 2, 3 would."""
    patients: dict[str, set[str]] = defaultdict(set)
    pairs = zip(rows.texts(stay).to_pylist(), rows.texts(patient).to_pylist(), strict=True)
    for stay_id, patient_id in set(pairs):
        if stay_id is not None and patient_id is not None:
            patients[stay_id].add(patient_id)
    shared = sum(len(found) > 1 for found in patients.values())
    return shared > 0.5 * max(1, len(patients))


def _guess(sample: Sample, column: str) -> TimeGuess:
    texts = pc.unique(sample.texts(column).drop_null())[:20_000].to_pylist()
    return guess_time(column, texts, is_date=sample.is_date(column))
