"""The patients of the tests of SOFA as tables of MIMIC-IV."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from simulation.cohorts.mimic.chartevents import stream_chartevents
from simulation.cohorts.mimic.sofa.records import SofaRecords
from simulation.cohorts.mimic4.schema import mimic4_tables
from simulation.cohorts.mimic4.sepsis3_records import METAVISION_SOFA_ITEMS, mimic4_sofa_records
from simulation.cohorts.source_tables import SourceTables
from tests.simulation.cohorts.mimic.sofa_patients import Patient, Points, at, scores_of
from tests.simulation.cohorts.mimic4.tables import HEADERS, MICU, SEPSIS3_HEADERS, Hospital


def add_patient(hospital: Hospital, n: int, patient: Patient) -> None:
    """Add the records of a patient; CareVue and flagged errors are of MIMIC-III alone."""
    assert not any((patient.carevue, patient.charted_wrong, patient.urine_wrong))
    stay = 100 + n
    rows = hospital.rows
    rows["icu/icustays"].append((n, 10 + n, stay, MICU, MICU, at(0), at(patient.hours), 3))
    for sample, values in ((1, patient.lab), (2, patient.other_sample)):
        for hour, item, value in values:
            specimen = sample + 10 * int(hour * 100)
            if item == 50800:
                hospital.laboratory(n, 52033, at(hour), f"{value}.", specimen)
            else:
                hospital.laboratory(n, item, at(hour), value, specimen)
    for hour, item, value in patient.chart:
        number = "" if isinstance(value, str) else value
        rows["icu/chartevents"].append(
            (n, 10 + n, stay, "", at(hour), at(hour), item, value, number, "", 0)
        )
    infusions = [
        *(
            (start, end, item, rate, "mcg/kg/min", 80.0, status)
            for start, end, item, rate, status in patient.metavision
        ),
        *(
            (hour, hour + 1, item, rate, unit, weight, "FinishedRunning")
            for hour, item, rate, unit, weight in patient.inputs
        ),
    ]
    for start, end, item, rate, unit, weight, status in infusions:
        rows["icu/inputevents"].append(
            (n, 10 + n, "", "", at(start), at(end), item, "", rate, unit, weight, status)
        )
    for hour, item, ml in patient.urine:
        rows["icu/outputevents"].append((n, 10 + n, stay, "", at(hour), item, ml, "mL"))
    for hour, item in patient.extubated:
        rows["icu/procedureevents"].append(
            (n, 10 + n, stay, "", at(hour), at(hour), item, 1, "FinishedRunning")
        )


@contextmanager
def opened_mimic4(
    folder: Path, patients: Sequence[Patient]
) -> Iterator[tuple[SourceTables, SofaRecords]]:
    """The patients' tables and records; subjects count from 1."""
    hospital = Hospital()
    for n, patient in enumerate(patients, start=1):
        add_patient(hospital, n, patient)
    subjects = range(1, len(patients) + 1)
    with mimic4_tables(hospital.write(folder, headers=HEADERS | SEPSIS3_HEADERS)) as tables:
        chart = stream_chartevents(tables, METAVISION_SOFA_ITEMS, subjects, with_text=True)
        yield tables, mimic4_sofa_records(tables, chart, subjects)


def scores_mimic4(
    folder: Path, patients: Sequence[Patient], window: tuple[float, float] = (0, 24)
) -> list[dict[str, Points]]:
    with opened_mimic4(folder, patients) as (tables, records):
        return scores_of(tables, records, window)


def points_mimic4(
    folder: Path,
    component: str,
    patients: Sequence[Patient],
    window: tuple[float, float] = (0, 24),
) -> list[Points]:
    return [row[component] for row in scores_mimic4(folder, patients, window)]
