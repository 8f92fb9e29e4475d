"""Small eICU folders, made up, and a slow independent reader of their vital signs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from common.data.vitals import VITAL_NAMES, VITALS

PERIODIC = {
    "heartrate": "heart_rate",
    "respiration": "resp_rate",
    "sao2": "spo2",
    "temperature": "temperature_c",
    "systemicsystolic": "sbp",
    "systemicdiastolic": "dbp",
    "systemicmean": "mbp",
}
APERIODIC = {"noninvasivesystolic": "sbp", "noninvasivediastolic": "dbp", "noninvasivemean": "mbp"}
PATIENT = {
    "patientunitstayid": 1,
    "patienthealthsystemstayid": 1,
    "uniquepid": "002-1",
    "gender": "Female",
    "age": "60",
    "hospitalid": 73,
    "apacheadmissiondx": "",
    "hospitaldischargeyear": 2014,
    "hospitaldischargeoffset": 9000,
    "hospitaldischargestatus": "Alive",
    "unittype": "Med-Surg ICU",
    "unitvisitnumber": 1,
    "unitdischargeoffset": 1440,
}
NURSE = {
    "patientunitstayid": 1,
    "nursingchartoffset": 0,
    "nursingchartcelltypevallabel": "Temperature",
    "nursingchartcelltypevalname": "Temperature (C)",
    "nursingchartvalue": "37",
}
DIAGNOSIS = {"patientunitstayid": 1, "diagnosisstring": "", "icd9code": ""}
HOSPITAL = {"hospitalid": 73, "numbedscategory": "<100", "teachingstatus": "f", "region": "South"}

Row = Mapping[str, object]


def write_table(folder: Path, name: str, defaults: Row, rows: Iterable[Row]) -> None:
    """Write NAME.csv with a row for each of the overrides of the default row."""
    frame = pd.DataFrame([{**defaults, **row} for row in rows], columns=list(defaults))
    # Whole numbers stay whole in a column with gaps.
    frame.convert_dtypes().to_csv(folder / f"{name}.csv", index=False)


def write_eicu(
    folder: Path,
    patients: Iterable[Row] = ({},),
    periodic: Iterable[Row] = (),
    aperiodic: Iterable[Row] = (),
    nurse: Iterable[Row] = (),
    diagnoses: Iterable[Row] = (),
    hospitals: Iterable[Row] = ({},),
) -> Path:
    """Write the tables of a few stays; a row has the values that differ from the defaults.

    A table of vital signs without rows gets one of a stay that does not exist.
    """
    time = {"patientunitstayid": 1, "observationoffset": 0}
    periodic, aperiodic, nurse = (
        list(rows) or [{"patientunitstayid": 999}] for rows in (periodic, aperiodic, nurse)
    )
    write_table(folder, "patient", PATIENT, patients)
    write_table(folder, "vitalPeriodic", {**time, **dict.fromkeys(PERIODIC)}, periodic)
    write_table(folder, "vitalAperiodic", {**time, **dict.fromkeys(APERIODIC)}, aperiodic)
    write_table(folder, "nurseCharting", NURSE, nurse)
    write_table(folder, "diagnosis", DIAGNOSIS, diagnoses)
    write_table(folder, "hospital", HOSPITAL, hospitals)
    return folder


def hours_of_monitor(stay: int, hours: int) -> list[Row]:
    """Return a row of heart rate for each hour of a stay."""
    return [
        {"patientunitstayid": stay, "observationoffset": 60 * hour, "heartrate": 80}
        for hour in range(hours)
    ]


def slow_means(folder: Path, step_minutes: int) -> pd.DataFrame:
    """Means per stay and step by pandas, by the documented rules; for the tables' clean stays.

    Returns:
        `stay`, `step` and the vitals, sorted.
    """
    patients = _read(folder, "patient")
    until = patients.set_index("patientunitstayid")["unitdischargeoffset"]
    nurse = _read(folder, "nurseCharting")
    nurse["number"] = pd.to_numeric(nurse["nursingchartvalue"], errors="coerce")
    parts = [
        _wide(_read(folder, "vitalPeriodic"), PERIODIC, 0),
        _wide(_read(folder, "vitalAperiodic"), APERIODIC, 2),
        _charted(nurse),
    ]
    rows = pd.concat(parts)
    rows = rows[(rows["minute"] >= 0) & (rows["minute"] <= rows["stay"].map(until))]
    by_time = rows.groupby(["stay", "minute", "vital", "rank"])["value"].mean().reset_index()
    by_time["step"] = by_time["minute"] // step_minutes
    by_rank = by_time.groupby(["stay", "step", "vital", "rank"])["value"].mean().reset_index()
    first = by_rank.sort_values("rank").drop_duplicates(["stay", "step", "vital"])
    wide = first.pivot_table(index=["stay", "step"], columns="vital", values="value")
    return wide.reindex(columns=list(VITAL_NAMES)).reset_index()


def _read(folder: Path, table: str) -> pd.DataFrame:
    (path,) = folder.glob(f"{table}.csv*")
    return pd.read_csv(path)


def _wide(table: pd.DataFrame, vitals: Mapping[str, str], rank: int) -> pd.DataFrame:
    table = table.drop_duplicates(["patientunitstayid", "observationoffset", *vitals])
    values = table[list(vitals)].astype(float).rename(columns=dict(vitals))
    for vital in VITALS:
        if vital.name in values:
            valid = vital.valid(values[vital.name].to_numpy())
            values[vital.name] = values[vital.name].where(valid)
    wrong = values["mbp"] > values["sbp"]
    values.loc[wrong, ["sbp", "dbp", "mbp"]] = np.nan
    values["stay"] = table["patientunitstayid"]
    values["minute"] = table["observationoffset"]
    values["rank"] = rank
    long = values.melt(["stay", "minute", "rank"], var_name="vital")
    return long.dropna(subset="value")


def _charted(nurse: pd.DataFrame) -> pd.DataFrame:
    """Return the charted temperatures."""
    rows = nurse[nurse["nursingchartcelltypevallabel"] == "Temperature"].drop_duplicates(
        ["patientunitstayid", "nursingchartoffset", "nursingchartcelltypevalname", "number"]
    )
    number = rows["number"]
    value = number.where(number < 50, (number - 32) / 1.8)
    long = pd.DataFrame(
        {
            "stay": rows["patientunitstayid"],
            "minute": rows["nursingchartoffset"],
            "vital": "temperature_c",
            "rank": 1,
            "value": value,
        }
    )
    return long[(value > 10) & (value < 50)]
