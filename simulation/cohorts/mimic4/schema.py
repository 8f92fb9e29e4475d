"""Tables and columns of MIMIC-IV v2 and v3 that the cohort code reads, and the folder's check.

The columns have the same names in v2.0 to v3.1. Tables have their names in upper case here, as in
the code that MIMIC-III shares; the case of a file's name is ignored.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain
from pathlib import Path

from common.errors import SourceError
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
    },
    "DIAGNOSES_ICD": {"hadm_id": "BIGINT", "icd_code": "VARCHAR", "icd_version": "INTEGER"},
    "PROCEDURES_ICD": {"hadm_id": "BIGINT", "icd_code": "VARCHAR", "icd_version": "INTEGER"},
    "CHARTEVENTS": {
        "subject_id": "BIGINT",
        "itemid": "INTEGER",
        "charttime": "TIMESTAMP",
        "valuenum": "DOUBLE",
    },
}
"""Every table and column that the cohort code reads, with the SQL type it is given."""

_FOLDERS = ("hosp", "icu")
# Copies of the tables that were written by Python have None in empty fields.
_LAYOUT = TableLayout("MIMIC-IV", MIMIC4_COLUMNS, folders=_FOLDERS, missing=("None",))
_DEEPEST = 3


def mimic4_tables(folder: Path, *, memory_gb: float = 2.0) -> SourceTables:
    """Open a folder of MIMIC-IV tables, see `SourceTables`.

    Raises:
        SourceError: the folder has not both `hosp` and `icu`; names the one that has, where it is
            near.
    """
    if folder.is_dir():
        _check_level(folder)
    return SourceTables(folder, _LAYOUT, memory_gb=memory_gb)


def _check_level(folder: Path) -> None:
    if _is_root(folder):
        return
    above = folder.resolve().parent
    below = sorted(
        path.parent
        for path in chain.from_iterable(
            folder.glob("/".join(("*",) * depth + ("icu",))) for depth in range(1, _DEEPEST + 1)
        )
        if _is_root(path.parent)
    )
    absent = [name for name in _FOLDERS if not (folder / name).is_dir()]
    if _is_root(above):
        advice = f"give the folder above it, {above}"
    elif below:
        advice = f"give {below[0]}"
    else:
        advice = "give the folder that holds both, as PhysioNet's download has them"
    raise SourceError(
        f"{folder} has no folder {' and no folder '.join(absent)} with tables of MIMIC-IV; {advice}"
    )


def _is_root(folder: Path) -> bool:
    return all((folder / name).is_dir() for name in _FOLDERS)
