"""Tables and columns of eICU-CRD v2.0 that the cohort code reads, with their SQL types.

Times are offsets: whole minutes from the admission to the unit, negative before it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from simulation.cohorts.source_tables import SourceTables, TableLayout

TABLE_COLUMNS: Mapping[str, Mapping[str, str]] = {
    "patient": {
        "patientunitstayid": "INTEGER",
        "patienthealthsystemstayid": "INTEGER",
        "uniquepid": "VARCHAR",
        "gender": "VARCHAR",
        "age": "VARCHAR",
        "hospitalid": "INTEGER",
        "apacheadmissiondx": "VARCHAR",
        "hospitaldischargeyear": "INTEGER",
        "hospitaldischargeoffset": "INTEGER",
        "hospitaldischargestatus": "VARCHAR",
        "unittype": "VARCHAR",
        "unitvisitnumber": "INTEGER",
        "unitdischargeoffset": "INTEGER",
    },
    "hospital": {
        "hospitalid": "INTEGER",
        "numbedscategory": "VARCHAR",
        "teachingstatus": "VARCHAR",
        "region": "VARCHAR",
    },
    "diagnosis": {
        "patientunitstayid": "INTEGER",
        "diagnosisstring": "VARCHAR",
        "icd9code": "VARCHAR",
    },
    # 32-bit numbers, as in the site table.
    "vitalPeriodic": {
        "patientunitstayid": "INTEGER",
        "observationoffset": "INTEGER",
        "temperature": "FLOAT",
        "sao2": "FLOAT",
        "heartrate": "FLOAT",
        "respiration": "FLOAT",
        "systemicsystolic": "FLOAT",
        "systemicdiastolic": "FLOAT",
        "systemicmean": "FLOAT",
    },
    "vitalAperiodic": {
        "patientunitstayid": "INTEGER",
        "observationoffset": "INTEGER",
        "noninvasivesystolic": "FLOAT",
        "noninvasivediastolic": "FLOAT",
        "noninvasivemean": "FLOAT",
    },
    "nurseCharting": {
        "patientunitstayid": "INTEGER",
        "nursingchartoffset": "INTEGER",
        "nursingchartcelltypevallabel": "VARCHAR",
        "nursingchartcelltypevalname": "VARCHAR",
        "nursingchartvalue": "VARCHAR",
    },
}
"""Every table and column that the cohort code reads, with the SQL type it is given."""


def eicu_tables(folder: Path, *, memory_gb: float = 2.0) -> SourceTables:
    """Open a folder of eICU-CRD tables, see `SourceTables`."""
    return SourceTables(folder, TableLayout("eICU-CRD", TABLE_COLUMNS), memory_gb=memory_gb)
