"""Tables and columns of MIMIC-IV v2 and v3 that the cohort code reads.

The columns have the same names in v2.0 to v3.1. Tables have their names in upper case here, as in
the code that MIMIC-III shares; the case of a file's name is ignored.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from simulation.cohorts.source_tables import SourceTables, TableLayout

MIMIC4_COLUMNS: Mapping[str, Mapping[str, str]] = {
    "ICUSTAYS": {
        "subject_id": "BIGINT",
        "hadm_id": "BIGINT",
        "stay_id": "BIGINT",
        "first_careunit": "VARCHAR",
        "intime": "TIMESTAMP",
        "outtime": "TIMESTAMP",
    },
    "PATIENTS": {
        "subject_id": "BIGINT",
        "gender": "VARCHAR",
        "anchor_age": "INTEGER",
        "anchor_year": "INTEGER",
    },
    "ADMISSIONS": {
        "hadm_id": "BIGINT",
        "admittime": "TIMESTAMP",
        "dischtime": "TIMESTAMP",
        "deathtime": "TIMESTAMP",
        "discharge_location": "VARCHAR",
    },
    "DIAGNOSES_ICD": {"hadm_id": "BIGINT", "icd_code": "VARCHAR", "icd_version": "INTEGER"},
    "PROCEDURES_ICD": {"hadm_id": "BIGINT", "icd_code": "VARCHAR", "icd_version": "INTEGER"},
    "CHARTEVENTS": {
        "subject_id": "BIGINT",
        "itemid": "INTEGER",
        "charttime": "TIMESTAMP",
        "value": "VARCHAR",
        "valuenum": "DOUBLE",
    },
    "PRESCRIPTIONS": {
        "subject_id": "BIGINT",
        "hadm_id": "BIGINT",
        "starttime": "TIMESTAMP",
        "drug_type": "VARCHAR",
        "drug": "VARCHAR",
        "route": "VARCHAR",
    },
    "MICROBIOLOGYEVENTS": {
        "subject_id": "BIGINT",
        "hadm_id": "BIGINT",
        "chartdate": "TIMESTAMP",
        "charttime": "TIMESTAMP",
    },
    "LABEVENTS": {
        "subject_id": "BIGINT",
        "specimen_id": "BIGINT",
        "itemid": "INTEGER",
        "charttime": "TIMESTAMP",
        "value": "VARCHAR",
        "valuenum": "DOUBLE",
    },
    "INPUTEVENTS": {
        "subject_id": "BIGINT",
        "starttime": "TIMESTAMP",
        "endtime": "TIMESTAMP",
        "itemid": "INTEGER",
        "rate": "DOUBLE",
        "rateuom": "VARCHAR",
        "patientweight": "DOUBLE",
        "statusdescription": "VARCHAR",
    },
    "OUTPUTEVENTS": {
        "subject_id": "BIGINT",
        "stay_id": "BIGINT",
        "charttime": "TIMESTAMP",
        "itemid": "INTEGER",
        "value": "DOUBLE",
    },
    "PROCEDUREEVENTS": {
        "subject_id": "BIGINT",
        "starttime": "TIMESTAMP",
        "itemid": "INTEGER",
    },
}
"""Every table and column that the cohort code reads, with the SQL type it is given."""

# Copies of the tables that were written by Python have None in empty fields.
_LAYOUT = TableLayout("MIMIC-IV", MIMIC4_COLUMNS, folders=("hosp", "icu"), missing=("None",))


def mimic4_tables(folder: Path, *, memory_gb: float = 2.0) -> SourceTables:
    """Open a folder of MIMIC-IV tables, see `SourceTables`."""
    return SourceTables(folder, _LAYOUT, memory_gb=memory_gb)
