"""PhysioNet/CinC Challenge 2012: 48 hours of an ICU stay, four kinds of unit.

One `.txt` per stay with the columns Time (HH:MM since admission), Parameter and Value; general
descriptors are at 00:00, with -1 = missing. Source: Silva et al., Predicting in-hospital
mortality of ICU patients, Computing in Cardiology 2012; data doi 10.13026/C2MS32.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from common.data.cohort_writer import Cohort
from common.data.exclusion_flow import ExclusionFlow
from common.data.site_table import VITAL_NAMES
from common.errors import SourceError
from common.files.hashing import ReadProgress
from simulation.cohorts.arrays import Floats, Ints
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
from simulation.cohorts.stay_selection import adults, check_settings

ICU_TYPES = {1: "ccu", 2: "csru", 3: "micu", 4: "sicu"}
"""Care unit of each ICUType."""

VITAL_OF_PARAMETER = {
    "HR": "heart_rate",
    "SysABP": "sbp",
    "NISysABP": "sbp",
    "DiasABP": "dbp",
    "NIDiasABP": "dbp",
    "MAP": "mbp",
    "NIMAP": "mbp",
    "RespRate": "resp_rate",
    "Temp": "temperature_c",
    "SaO2": "spo2",
}
"""Vital sign of each parameter; NI is the cuff, its counterpart the arterial line."""

_SOURCE = "challenge-2012"
_KIND = RecordKind(
    re.compile(r"[0-9]+\.txt"), "files named after their number, as 132539.txt, in any folder"
)
_COLUMNS = ("Time", "Parameter", "Value")
_TIME = re.compile(r"([0-9]{2}):([0-5][0-9])")


def challenge_2012(
    *sources: Path,
    step_minutes: int = 60,
    min_hours: int = 12,
    progress: ReadProgress | None = None,
) -> Cohort:
    """Read the 2012 challenge into per-step means of each kind of ICU.

    Each record is a patient of its own, since the challenge has no patient ids. No label of
    sepsis exists here: all adults' stays are kept. Cuff and arterial pressures become one vital.

    Args:
        sources: tar archives or unpacked folders, read as one data set.
        step_minutes: length of a time step.
        min_hours: least hours from admission to the end of the last step with a vital sign.
        progress: called as the source is read.

    Returns:
        The cohort with the sites ccu, csru, micu and sicu, if they have stays.

    Raises:
        SourceError: the source cannot be read, or a record in it is malformed.
        UsageError: a setting is invalid.
    """
    check_settings(step_minutes, min_hours)
    records, inputs = read_records(sources, _KIND, progress)
    table = parse_records(records, ",", _COLUMNS)
    minutes = _minutes(table, records)
    flow = ExclusionFlow()
    stays = _stays(table, records)
    flow.record("ICU stays in the source", stays)
    stays = adults(stays, flow)
    return finish_cohort(
        stays,
        _measurements(table, minutes),
        flow,
        source=_SOURCE,
        rule="all stays (the source has no sepsis label)",
        parameters={"step_minutes": step_minutes, "min_hours": min_hours},
        inputs=inputs,
    )


def _minutes(table: pa.Table, records: Sequence[StayRecord]) -> Ints:
    """Convert the times to minutes since admission, [N]."""
    # A million rows have a few thousand distinct times.
    encoded = table["Time"].combine_chunks().dictionary_encode()
    parsed = [_TIME.fullmatch(time) for time in encoded.dictionary.to_pylist()]
    minutes = np.array([60 * int(time[1]) + int(time[2]) if time else -1 for time in parsed])
    minutes = np.asarray(minutes[encoded.indices.to_numpy()], dtype=np.int64)
    refuse(minutes < 0, table, records, "a time HH:MM", "Time")
    return minutes


def _stays(table: pa.Table, records: Sequence[StayRecord]) -> pd.DataFrame:
    icu_type = _descriptor(table, "ICUType", records)
    unknown = ~np.isin(icu_type, list(ICU_TYPES))
    if unknown.any():
        record = int(np.argmax(unknown))
        raise SourceError(
            f"record {records[record].path}: ICUType must be 1, 2, 3 or 4, got "
            f"{'none' if np.isnan(icu_type[record]) else f'{icu_type[record]:g}'}"
        )
    units = [ICU_TYPES[int(icu)] for icu in icu_type]
    return pd.DataFrame(
        {
            "patient_id": [record.name for record in records],
            "unit": units,
            "care_unit": units,
            # -1 = unknown age, which is below the limit and thus excluded.
            "age": _descriptor(table, "Age", records),
            "sex": sexes(_descriptor(table, "Gender", records)),
        }
    )


def _descriptor(table: pa.Table, parameter: str, records: Sequence[StayRecord]) -> Floats:
    """Return a general descriptor of each record, NaN if it has none, [R]."""
    rows = table.filter(pc.equal(table["Parameter"], parameter))
    values, _ = parse_numbers(rows["Value"])
    return record_maximum(values, rows, records)


def _measurements(table: pa.Table, minutes: Ints) -> Measurements:
    parameter = pc.index_in(table["Parameter"], pa.array(list(VITAL_OF_PARAMETER)))
    wanted = np.flatnonzero(parameter.is_valid().to_numpy())
    parameter = parameter.drop_null().to_numpy().astype(np.int64)
    values, _ = parse_numbers(table["Value"].take(pa.array(wanted)))
    vital_of_parameter = np.array(
        [VITAL_NAMES.index(vital) for vital in VITAL_OF_PARAMETER.values()]
    )
    return Measurements(
        record=record_indices(table)[wanted],
        vital=vital_of_parameter[parameter],
        parameter=parameter,
        minute=minutes[wanted],
        value=values,
    )
