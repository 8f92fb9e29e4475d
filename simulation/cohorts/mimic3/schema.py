"""Tables and columns of MIMIC-III v1.4 that the cohort code reads, with their SQL types."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from simulation.cohorts.source_tables import SourceTables, TableLayout

TABLE_COLUMNS: Mapping[str, Mapping[str, str]] = {
    "ICUSTAYS": {
        "subject_id": "BIGINT",
        "hadm_id": "BIGINT",
        "icustay_id": "BIGINT",
        "dbsource": "VARCHAR",
        "first_careunit": "VARCHAR",
        "intime": "TIMESTAMP",
        "outtime": "TIMESTAMP",
    },
    "PATIENTS": {"subject_id": "BIGINT", "gender": "VARCHAR", "dob": "TIMESTAMP"},
    "ADMISSIONS": {
        "subject_id": "BIGINT",
        "hadm_id": "BIGINT",
        "admittime": "TIMESTAMP",
        "dischtime": "TIMESTAMP",
        "deathtime": "TIMESTAMP",
    },
    "DIAGNOSES_ICD": {
        "subject_id": "BIGINT",
        "hadm_id": "BIGINT",
        "seq_num": "INTEGER",
        "icd9_code": "VARCHAR",
    },
    "PROCEDURES_ICD": {"hadm_id": "BIGINT", "icd9_code": "VARCHAR"},
    "MICROBIOLOGYEVENTS": {
        "subject_id": "BIGINT",
        "hadm_id": "BIGINT",
        "chartdate": "TIMESTAMP",
        "charttime": "TIMESTAMP",
        "spec_type_desc": "VARCHAR",
        "org_name": "VARCHAR",
    },
    "PRESCRIPTIONS": {
        "subject_id": "BIGINT",
        "hadm_id": "BIGINT",
        "icustay_id": "BIGINT",
        "startdate": "TIMESTAMP",
        "enddate": "TIMESTAMP",
        "drug_type": "VARCHAR",
        "drug": "VARCHAR",
        "route": "VARCHAR",
    },
    "LABEVENTS": {
        "subject_id": "BIGINT",
        "hadm_id": "BIGINT",
        "itemid": "INTEGER",
        "charttime": "TIMESTAMP",
        "value": "VARCHAR",
        "valuenum": "DOUBLE",
    },
    "INPUTEVENTS_CV": {
        "icustay_id": "BIGINT",
        "charttime": "TIMESTAMP",
        "itemid": "INTEGER",
        "amount": "DOUBLE",
        "rate": "DOUBLE",
        "rateuom": "VARCHAR",
    },
    "INPUTEVENTS_MV": {
        "icustay_id": "BIGINT",
        "starttime": "TIMESTAMP",
        "endtime": "TIMESTAMP",
        "itemid": "INTEGER",
        "rate": "DOUBLE",
        "rateuom": "VARCHAR",
        "amount": "DOUBLE",
        "amountuom": "VARCHAR",
        "patientweight": "DOUBLE",
        "statusdescription": "VARCHAR",
    },
    "OUTPUTEVENTS": {
        "icustay_id": "BIGINT",
        "charttime": "TIMESTAMP",
        "itemid": "INTEGER",
        "value": "DOUBLE",
        "iserror": "INTEGER",
    },
    "PROCEDUREEVENTS_MV": {
        "icustay_id": "BIGINT",
        "starttime": "TIMESTAMP",
        "endtime": "TIMESTAMP",
        "itemid": "INTEGER",
        "statusdescription": "VARCHAR",
    },
    "CHARTEVENTS": {
        "subject_id": "BIGINT",
        "hadm_id": "BIGINT",
        "icustay_id": "BIGINT",
        "itemid": "INTEGER",
        "charttime": "TIMESTAMP",
        "value": "VARCHAR",
        "valuenum": "DOUBLE",
        "valueuom": "VARCHAR",
        "error": "INTEGER",
    },
}
"""Every table and column that the cohort code reads, with the SQL type it is given. Loaded tables
have ICUSTAY_ID as `stay_id` and ICD9_CODE as `icd_code`."""

# MIMIC-IV's names, which the code for both has.
_RENAMED = {"icustay_id": "stay_id", "icd9_code": "icd_code"}
_LAYOUT = TableLayout("MIMIC-III", TABLE_COLUMNS, renamed=_RENAMED)


def mimic3_tables(folder: Path, *, memory_gb: float = 2.0) -> SourceTables:
    """Open a folder of MIMIC-III tables, see `SourceTables`."""
    return SourceTables(folder, _LAYOUT, memory_gb=memory_gb)
