"""Patients made for the tests of SOFA: a few measurements each, as tables of MIMIC-III."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from simulation.cohorts.mimic.chartevents import stream_chartevents
from simulation.cohorts.mimic.sofa.records import SofaRecords
from simulation.cohorts.mimic.sofa.score import COMPONENTS, SOFA_ITEMS, sofa_scores
from simulation.cohorts.mimic3.schema import mimic3_tables
from simulation.cohorts.mimic3.sepsis3_records import mimic3_sofa_records
from simulation.cohorts.source_tables import SourceTables

INTIME = datetime.fromisoformat("2150-01-01 00:00:00")
SOFA_HEADERS = {
    "INPUTEVENTS_CV": "ICUSTAY_ID,CHARTTIME,ITEMID,AMOUNT,RATE,RATEUOM",
    "INPUTEVENTS_MV": (
        "ICUSTAY_ID,STARTTIME,ENDTIME,ITEMID,RATE,RATEUOM,AMOUNT,AMOUNTUOM,PATIENTWEIGHT,"
        "STATUSDESCRIPTION"
    ),
    "OUTPUTEVENTS": "ICUSTAY_ID,CHARTTIME,ITEMID,VALUE,ISERROR",
    "PROCEDUREEVENTS_MV": "ICUSTAY_ID,STARTTIME,ENDTIME,ITEMID,STATUSDESCRIPTION",
    "CHARTEVENTS": "SUBJECT_ID,HADM_ID,ICUSTAY_ID,ITEMID,CHARTTIME,VALUE,VALUENUM,VALUEUOM,ERROR",
}
HEADERS = {
    "ICUSTAYS": "SUBJECT_ID,HADM_ID,ICUSTAY_ID,DBSOURCE,FIRST_CAREUNIT,INTIME,OUTTIME",
    "LABEVENTS": "SUBJECT_ID,HADM_ID,ITEMID,CHARTTIME,VALUE,VALUENUM",
    **SOFA_HEADERS,
}

Value = tuple[float, int, float | str]  # hour, item, value
Points = int | None


@dataclass
class Patient:
    """The measurements of one patient; times are hours from the admission to the ICU."""

    lab: Sequence[Value] = ()
    chart: Sequence[Value] = ()
    charted_wrong: Sequence[Value] = ()
    carevue: Sequence[tuple[float, int, float, str]] = ()  # hour, item, rate, unit
    metavision: Sequence[tuple[float, float, int, float, str]] = ()  # from, to, item, rate, status
    urine: Sequence[tuple[float, int, float]] = ()  # hour, item, mL
    urine_wrong: Sequence[tuple[float, int, float]] = ()
    # Of MIMIC-IV alone: hour, item, rate, unit, weight; and values of another blood sample.
    inputs: Sequence[tuple[float, int, float, str, float]] = ()
    other_sample: Sequence[Value] = ()
    extubated: Sequence[tuple[float, int]] = ()  # hour, item
    hours: float = 72  # length of stay


def at(hours: float) -> datetime:
    return INTIME + timedelta(hours=hours)


def rows_of(subject: int, patient: Patient) -> dict[str, list[tuple[object, ...]]]:
    stay = 100 + subject

    def number(value: float | str) -> float | str:
        return "" if isinstance(value, str) else value

    return {
        "ICUSTAYS": [(subject, 10, stay, "carevue", "MICU", at(0), at(patient.hours))],
        "LABEVENTS": [
            (subject, "", item, at(hour), value, number(value)) for hour, item, value in patient.lab
        ],
        "INPUTEVENTS_CV": [
            (stay, at(hour), item, "", rate, unit) for hour, item, rate, unit in patient.carevue
        ],
        "INPUTEVENTS_MV": [
            (stay, at(start), at(end), item, rate, "mcg/kg/min", "", "", "", status)
            for start, end, item, rate, status in patient.metavision
        ],
        "OUTPUTEVENTS": [
            (stay, at(hour), item, ml, error)
            for error, values in (("", patient.urine), (1, patient.urine_wrong))
            for hour, item, ml in values
        ],
        "PROCEDUREEVENTS_MV": [
            (stay, at(hour), at(hour), item, "FinishedRunning") for hour, item in patient.extubated
        ],
        "CHARTEVENTS": [
            (subject, 10, "", item, at(hour), value, number(value), "", error)
            for error, values in (("", patient.chart), (1, patient.charted_wrong))
            for hour, item, value in values
        ],
    }


@contextmanager
def opened(folder: Path, patients: Sequence[Patient]) -> Iterator[tuple[SourceTables, SofaRecords]]:
    """The patients' tables and records; subjects count from 1."""
    rows = [rows_of(subject, patient) for subject, patient in enumerate(patients, start=1)]
    for table, header in HEADERS.items():
        with (folder / f"{table}.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(header.split(","))
            writer.writerows(row for patient_rows in rows for row in patient_rows[table])
    with mimic3_tables(folder) as tables:
        subjects = range(1, len(patients) + 1)
        chart = stream_chartevents(tables, SOFA_ITEMS, subjects, with_text=True)
        yield tables, mimic3_sofa_records(tables, chart)


def scores(
    folder: Path,
    patients: Sequence[Patient],
    window: tuple[float, float] = (0, 24),
    lab_lookback_h: int = 0,
) -> list[dict[str, Points]]:
    with opened(folder, patients) as (tables, records):
        return scores_of(tables, records, window, lab_lookback_h)


def scores_of(
    tables: SourceTables,
    records: SofaRecords,
    window: tuple[float, float],
    lab_lookback_h: int = 0,
) -> list[dict[str, Points]]:
    """The scores of each stay, by its id, in one window."""
    tables.connection.execute(
        f"CREATE TABLE windows AS SELECT subject_id, stay_id, ?::TIMESTAMP AS window_start, "
        f"?::TIMESTAMP AS window_end FROM {records.stays}",
        [at(window[0]), at(window[1])],
    )
    table = sofa_scores(tables.connection, records, "windows", lab_lookback_h=lab_lookback_h)
    columns = (*COMPONENTS, "sofa")
    rows = tables.connection.execute(
        f"SELECT {', '.join(columns)} FROM {table} ORDER BY stay_id"
    ).fetchall()
    assert [(len(rows),)] == tables.connection.execute(
        f"SELECT count(*) FROM {records.stays}"
    ).fetchall()
    return [dict(zip(columns, row, strict=True)) for row in rows]


def points(
    folder: Path,
    component: str,
    patients: Sequence[Patient],
    window: tuple[float, float] = (0, 24),
) -> list[Points]:
    return [row[component] for row in scores(folder, patients, window)]


def gas(hour: float, po2: float, specimen: str = "ART") -> list[Value]:
    """A blood gas at an FiO2 of 50 %: the ratio is twice the PaO2."""
    return [(hour, 50800, specimen), (hour, 50821, po2), (hour, 50816, 50)]
