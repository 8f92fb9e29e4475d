"""Tables of MIMIC-IV as the records of suspected infection and of SOFA.

MIMIC-IV has MetaVision's items alone. What differs from MIMIC-III's tables, with the files of
github.com/MIT-LCP/mimic-code, mimic-iv/concepts, that handle the same:

- Prescriptions have a start with a clock time (`medication/antibiotic`).
- A culture taken before the admission, as in the emergency department, has no HADM_ID. It belongs
  to the admission of the patient whose antibiotic is close in time (`sepsis/suspicion_of_infection`
  joins by patient too).
- The specimen of a blood gas is the item 52033, with a full stop (``ART.``), and values of one
  blood sample share a SPECIMEN_ID (`measurement/bg`).
- A few rates of norepinephrine are in mg/kg/min; with a weight of 1 kg the rate is ug/kg/min
  (`medication/norepinephrine`). A rate in ug/min is divided by the row's own PATIENTWEIGHT.
- No records are marked as errors.
"""

from __future__ import annotations

from collections.abc import Collection

from common.errors import SourceError
from simulation.cohorts.mimic.patient_rows import stream_patients
from simulation.cohorts.mimic.sofa.cardiovascular import VASOPRESSORS
from simulation.cohorts.mimic.sofa.laboratory import LABORATORY_ITEMS, SPECIMEN
from simulation.cohorts.mimic.sofa.records import SofaRecords
from simulation.cohorts.mimic.sofa.renal import URINE_ITEMS
from simulation.cohorts.mimic.sofa.score import SOFA_ITEMS
from simulation.cohorts.mimic.sofa.ventilation import EXTUBATION_PROCEDURES
from simulation.cohorts.mimic.suspected_infection import (
    InfectionRecords,
    is_systemic_antibiotic,
    time_of_culture,
)
from simulation.cohorts.source_tables import SourceTables

# MIMIC-IV's; that of MIMIC-III is `SPECIMEN`.
_SPECIMEN = 52033
_FIRST_METAVISION_ITEM = 220000

METAVISION_SOFA_ITEMS: frozenset[int] = frozenset(
    item for item in SOFA_ITEMS if item >= _FIRST_METAVISION_ITEM
)
"""Item ids of CHARTEVENTS that SOFA reads, with text values."""

SEPSIS3_TABLES: tuple[str, ...] = (
    "ICUSTAYS",
    "PRESCRIPTIONS",
    "MICROBIOLOGYEVENTS",
    "CHARTEVENTS",
    "LABEVENTS",
    "INPUTEVENTS",
    "OUTPUTEVENTS",
    "PROCEDUREEVENTS",
)
"""Tables of Sepsis-3."""

_INFECTION = "suspected infection (sepsis3)"
_SOFA = "SOFA (sepsis3)"


def check_sepsis3_tables(tables: SourceTables) -> None:
    """Check, before anything is read, that all tables of Sepsis-3 are there with their columns.

    Raises:
        SourceError: names every absent table and column.
    """
    absent = [table for table in SEPSIS3_TABLES if not tables.has(table)]
    problems = [f"{', '.join(absent)} absent"] if absent else []
    for table in SEPSIS3_TABLES:
        try:
            if table not in absent:
                tables.check_header(table, _SOFA)
        except SourceError as error:
            problems.append(str(error))
    if problems:
        raise SourceError(
            f"{tables.folder} lacks what the sepsis rule sepsis3 needs: {'; '.join(problems)}; add "
            "these files as MIMIC-IV publishes them, or choose --sepsis explicit or none"
        )


def mimic4_infection_records(
    tables: SourceTables, stays: str, subjects: Collection[int]
) -> InfectionRecords:
    """Read antibiotics and cultures of some patients.

    Args:
        tables: has PRESCRIPTIONS and MICROBIOLOGYEVENTS.
        stays: a DuckDB table of their stays: `subject_id`, `hadm_id`.
        subjects: the patients.

    Raises:
        SourceError: one of the tables is absent.
    """
    prescriptions = stream_patients(tables, "PRESCRIPTIONS", _INFECTION, subjects)
    cultures = stream_patients(tables, "MICROBIOLOGYEVENTS", _INFECTION, subjects)
    return InfectionRecords(
        antibiotics=f"(SELECT hadm_id, starttime AS started FROM {prescriptions} "
        f"WHERE {is_systemic_antibiotic()})",
        cultures=f"""(
            SELECT coalesce(c.hadm_id, s.hadm_id) AS hadm_id, {time_of_culture()}
            FROM {cultures} c LEFT JOIN (SELECT DISTINCT subject_id, hadm_id FROM {stays}) s
              ON c.hadm_id IS NULL AND s.subject_id = c.subject_id
        )""",
        antibiotics_have_times=True,
    )


def mimic4_sofa_records(
    tables: SourceTables, chartevents: str, subjects: Collection[int]
) -> SofaRecords:
    """Read the records of SOFA of some patients.

    Args:
        tables: has ICUSTAYS, LABEVENTS, INPUTEVENTS, OUTPUTEVENTS and PROCEDUREEVENTS.
        chartevents: a DuckDB table with their CHARTEVENTS rows of `METAVISION_SOFA_ITEMS`, with
            text values: `subject_id`, `itemid`, `charttime`, `value`, `valuenum`.
        subjects: the patients.

    Raises:
        SourceError: one of the tables is absent.
    """

    def read(table: str, items: Collection[int]) -> str:
        return stream_patients(tables, table, _SOFA, subjects, items=items)

    return SofaRecords(
        stays=tables.load("ICUSTAYS", _SOFA),
        laboratory=_laboratory(read("LABEVENTS", {*LABORATORY_ITEMS, _SPECIMEN})),
        chart=chartevents,
        infusions=_infusions(read("INPUTEVENTS", VASOPRESSORS)),
        outputs=read("OUTPUTEVENTS", URINE_ITEMS),
        procedures=read("PROCEDUREEVENTS", EXTUBATION_PROCEDURES),
    )


def _laboratory(labevents: str) -> str:
    return f"""(
        SELECT subject_id, specimen_id, charttime, valuenum,
               CASE itemid WHEN {_SPECIMEN} THEN {SPECIMEN} ELSE itemid END AS itemid,
               CASE WHEN itemid IN ({_SPECIMEN}, {SPECIMEN}) THEN rtrim(trim(value), '.')
                    ELSE value END AS value
        FROM {labevents}
    )"""


def _infusions(inputevents: str) -> str:
    # A rewritten order was never given.
    return f"""(
        SELECT subject_id, itemid, starttime, coalesce(endtime, starttime) AS endtime,
               CASE WHEN unit = 'mgkgmin' AND patientweight = 1 THEN rate
                    WHEN unit = 'mgkgmin' THEN rate * 1000
                    WHEN unit = 'mcgmin' AND patientweight > 1 THEN rate / patientweight
                    ELSE rate END AS rate,
               CASE WHEN unit = 'mgkgmin' OR unit = 'mcgmin' AND patientweight > 1
                    THEN 'mcg/kg/min' ELSE rateuom END AS rateuom
        FROM (SELECT *, replace(lower(trim(rateuom)), '/', '') AS unit FROM {inputevents})
        WHERE coalesce(statusdescription, '') != 'Rewritten'
    )"""
