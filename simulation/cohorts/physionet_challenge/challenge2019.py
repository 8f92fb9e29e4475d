"""PhysioNet/CinC Challenge 2019: hourly records of two hospitals, labelled by Sepsis-3.

One `.psv` per stay, a row per hour. ICULOS counts the hours since admission to the ICU; Unit1 is
MICU and Unit2 SICU, both empty if unknown; SepsisLabel is 1 from six hours before the onset of
sepsis on. Source: Reyna et al., Crit Care Med 2020, 48(2):210; data doi 10.13026/v64v-d857.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd
import pyarrow as pa

from common.data.cohort_writer import Cohort
from common.data.exclusion_flow import ExclusionFlow
from common.data.vitals import VITAL_NAMES
from common.errors import SourceError, UsageError
from common.files.hashing import ReadProgress
from simulation.cohorts.arrays import Bools, Floats, Ints
from simulation.cohorts.physionet_challenge.archive import (
    RecordKind,
    StayRecord,
    read_records,
)
from simulation.cohorts.physionet_challenge.measurements import Measurements
from simulation.cohorts.physionet_challenge.parsing import (
    parse_numbers,
    parse_records,
    record_indices,
    record_maximum,
    refuse,
)
from simulation.cohorts.physionet_challenge.selection import finish_cohort, sexes
from simulation.cohorts.stay_selection import adults, check_settings, one_of

LABEL_RULES = ("label", "none")
SITES = ("unit", "hospital")
VITAL_OF_COLUMN = {
    "HR": "heart_rate",
    "SBP": "sbp",
    "DBP": "dbp",
    "MAP": "mbp",
    "Resp": "resp_rate",
    "Temp": "temperature_c",
    "O2Sat": "spo2",
}
"""Vital sign of each column."""

MAX_ICULOS = 100 * 24
"""Largest valid ICULOS, in hours; the challenge's own records end after 336."""

_SOURCE = "challenge-2019"
_KIND = RecordKind(re.compile(r"p[0-9]+\.psv"), "files named as p100002.psv, in any folder")
_HOSPITAL_FOLDERS = {"training_setA": "a", "training_setB": "b"}
_HOSPITAL_NUMBERS = {"p0": "a", "p1": "b"}


def challenge_2019(
    *sources: Path,
    sites: str = "unit",
    sepsis: str = "label",
    step_minutes: int = 60,
    min_hours: int = 12,
    progress: ReadProgress | None = None,
) -> Cohort:
    """Read the 2019 challenge into per-step means of each hospital and unit.

    Each record is a patient of its own, since the challenge has no patient ids. Steps count from
    a record's first row.

    Args:
        sources: tar archives or unpacked folders, read as one data set.
        sites: ``unit`` makes each unit of a hospital a site, ``hospital`` each hospital.
        sepsis: ``label`` keeps the stays in which SepsisLabel is ever 1, ``none`` keeps all.
        step_minutes: length of a time step, a multiple of 60 since the rows are hourly.
        min_hours: least hours from the first row to the end of the last step with a vital sign.
        progress: called as the source is read.

    Returns:
        The cohort with the sites a-micu, a-sicu, a-unknown, b-micu, b-sicu and b-unknown, or
        hospital-a and hospital-b, if they have stays.

    Raises:
        SourceError: the source cannot be read, or a record in it is malformed.
        UsageError: a setting is invalid.
    """
    check_settings(step_minutes, min_hours)
    if step_minutes % 60:
        raise UsageError(
            f"--step-minutes must be a multiple of 60 for {_SOURCE}, whose rows are hourly, got "
            f"{step_minutes}"
        )
    one_of("--sites", sites, SITES)
    one_of("--sepsis", sepsis, LABEL_RULES)
    records, inputs = read_records(sources, _KIND, progress)
    # Without a rule the label is read for the description of the patients alone, if it is there.
    has_label = b"SepsisLabel" in records[0].content.partition(b"\n")[0]
    labels = ["SepsisLabel"] if sepsis == "label" or has_label else []
    about = ["Age", "Gender", "Unit1", "Unit2", "ICULOS"]
    table = parse_records(records, "|", [*VITAL_OF_COLUMN, *about, *labels])
    flow = ExclusionFlow()
    stays = _stays(table, records, sites)
    if labels:
        stays["septic"] = _septic(table, records)
    flow.record("ICU stays in the source", stays)
    stays = adults(stays, flow)
    if sepsis == "label":
        stays = stays[stays["septic"]]
        flow.record("sepsis by the rule label", stays)
    return finish_cohort(
        stays,
        _measurements(table, records),
        flow,
        source=_SOURCE,
        rule=f"sepsis={sepsis}",
        parameters={
            "sites": sites,
            "sepsis": sepsis,
            "step_minutes": step_minutes,
            "min_hours": min_hours,
        },
        inputs=inputs,
    )


def _stays(table: pa.Table, records: Sequence[StayRecord], sites: str) -> pd.DataFrame:
    medical = _largest(table, "Unit1", records) == 1
    surgical = _largest(table, "Unit2", records) == 1
    units = np.select([medical, surgical], ["micu", "sicu"], "unknown")
    hospitals = [_hospital(record) for record in records]
    if sites == "hospital":
        names = [f"hospital-{hospital}" for hospital in hospitals]
    else:
        names = [f"{hospital}-{unit}" for hospital, unit in zip(hospitals, units, strict=True)]
    return pd.DataFrame(
        {
            "patient_id": [record.name for record in records],
            "unit": names,
            "care_unit": units,
            "age": _largest(table, "Age", records),
            "sex": sexes(_largest(table, "Gender", records)),
        }
    )


def _hospital(record: StayRecord) -> str:
    """Return the hospital by the record's folder, else by its number."""
    for folder in PurePosixPath(record.path).parts[:-1]:
        if folder in _HOSPITAL_FOLDERS:
            return _HOSPITAL_FOLDERS[folder]
    try:
        return _HOSPITAL_NUMBERS[record.name[:2]]
    except KeyError:
        raise SourceError(
            f"record {record.path}: its hospital is not known; expected a folder training_setA or "
            "training_setB, or a name that starts with p0 (A) or p1 (B)"
        ) from None


def _septic(table: pa.Table, records: Sequence[StayRecord]) -> Bools:
    labels, _ = parse_numbers(table["SepsisLabel"])
    refuse(~np.isin(labels, (0, 1)), table, records, "0 or 1", "SepsisLabel")
    return np.asarray(record_maximum(labels, table, records) == 1)


def _largest(table: pa.Table, column: str, records: Sequence[StayRecord]) -> Floats:
    values, _ = parse_numbers(table[column])
    return record_maximum(values, table, records)


def _measurements(table: pa.Table, records: Sequence[StayRecord]) -> Measurements:
    minute = 60 * _hours(table, records)
    parsed = [parse_numbers(table[column]) for column in VITAL_OF_COLUMN]
    values = np.stack([values for values, _ in parsed])  # [columns, rows]
    present = ~np.isnan(values) | np.stack([no_number for _, no_number in parsed])
    column, row = np.nonzero(present)
    vital = np.array([VITAL_NAMES.index(name) for name in VITAL_OF_COLUMN.values()])[column]
    return Measurements(
        record=record_indices(table)[row],
        vital=vital,
        parameter=vital,
        minute=minute[row],
        value=values[present],
    )


def _hours(table: pa.Table, records: Sequence[StayRecord]) -> Ints:
    """Return the hours since the first of the record's rows, [N]; rows may be missing."""
    iculos, _ = parse_numbers(table["ICULOS"])
    # NaN compares false: a missing hour is refused too.
    whole = (iculos >= 0) & (iculos <= MAX_ICULOS) & (iculos == np.floor(iculos))
    refuse(~whole, table, records, f"a whole number from 0 to {MAX_ICULOS}", "ICULOS")
    first = -record_maximum(-iculos, table, records)
    return np.asarray(iculos - first[record_indices(table)], dtype=np.int64)
