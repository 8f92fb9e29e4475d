"""Register of the hospital: ICUSTAYS, ADMISSIONS, PATIENTS and the coded diagnoses."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa

from simulation.cohorts.arrays import Bools
from simulation.cohorts.synthetic.patients import DAY_S, HOUR_S
from simulation.cohorts.synthetic.tables import TableWriter, dates, timestamps
from simulation.cohorts.synthetic.units import UNIT_NAMES, of_unit

_WARDS = np.array([52, 33, 7, 14, 23, 56])  # in the order of UNIT_NAMES

_COMORBIDITIES = {"4019": 0.45, "25000": 0.25, "41401": 0.25, "42731": 0.2, "2724": 0.2,
                  "V4581": 0.1, "E8889": 0.05}  # fmt: skip
"""ICD-9 codes that no sepsis rule reads, with their frequencies."""


def write_register(rng: np.random.Generator, writer: TableWriter, stays: pd.DataFrame) -> None:
    """Write the tables with a row per stay, admission, patient or code.

    Args:
        rng: random generator.
        writer: the tables.
        stays: frame of `draw_stays`.
    """
    _write_stays(rng, writer, stays)
    admissions = _write_admissions(rng, writer, _admissions(stays))
    _write_patients(writer, admissions)
    _write_codes(rng, writer, admissions)


def _write_stays(rng: np.random.Generator, writer: TableWriter, stays: pd.DataFrame) -> None:
    units = stays["unit"].to_numpy()
    names = np.array(UNIT_NAMES, dtype=object)
    adult = units < len(UNIT_NAMES) - 1
    moved = adult & (rng.random(len(stays)) < 0.05)
    last = np.where(moved, rng.integers(0, len(UNIT_NAMES) - 1, len(stays)), units)
    unknown = (stays["role"] == "open").to_numpy()
    length = (stays["outtime"] - stays["intime"]).to_numpy() / DAY_S
    writer.write(
        "ICUSTAYS",
        {
            "SUBJECT_ID": stays["subject_id"],
            "HADM_ID": stays["hadm_id"],
            "ICUSTAY_ID": stays["icustay_id"],
            "DBSOURCE": pa.array(stays["dbsource"], pa.string()),
            "FIRST_CAREUNIT": names[units],
            "LAST_CAREUNIT": names[last],
            "FIRST_WARDID": _WARDS[units],
            "LAST_WARDID": _WARDS[last],
            "INTIME": timestamps(stays["intime"]),
            "OUTTIME": timestamps(stays["outtime"], unknown),
            "LOS": np.where(unknown, np.nan, length.round(4)),
        },
    )


def _admissions(stays: pd.DataFrame) -> pd.DataFrame:
    """Return one row per admission, sorted by patient and time; `intime` of its first stay."""
    grouped = stays.sort_values("intime").groupby("hadm_id")
    firsts = grouped[["subject_id", "unit", "sepsis", "gender", "dob", "intime"]].first()
    lasts = grouped[["outtime", "died"]].max()
    return firsts.join(lasts).reset_index().sort_values(["subject_id", "intime"], ignore_index=True)


def _write_admissions(
    rng: np.random.Generator, writer: TableWriter, admissions: pd.DataFrame
) -> pd.DataFrame:
    """Write ADMISSIONS; return the admissions with `left`, the time of discharge or death."""
    count = len(admissions)
    before = np.round(rng.uniform(0.3, 20, count) * 60).astype(np.int64) * 60
    newborn = (admissions["unit"] == len(UNIT_NAMES) - 1).to_numpy()
    before = np.where(newborn, 60, before)
    died = admissions["died"].to_numpy(bool)
    after_h = np.where(died, rng.uniform(0, 3, count), rng.uniform(12, 200, count))
    left = admissions["outtime"].to_numpy() + np.round(after_h * HOUR_S).astype(np.int64)
    left += -left % 60
    admitted = admissions["intime"].to_numpy() - before
    writer.write(
        "ADMISSIONS",
        {
            "SUBJECT_ID": admissions["subject_id"],
            "HADM_ID": admissions["hadm_id"],
            "ADMITTIME": timestamps(admitted - admitted % 60),
            "DISCHTIME": timestamps(left),
            "DEATHTIME": timestamps(left, ~died),
            "ADMISSION_TYPE": np.where(newborn, "NEWBORN", "EMERGENCY").astype(object),
            "DISCHARGE_LOCATION": np.where(died, "DEAD/EXPIRED", "HOME").astype(object),
            "DIAGNOSIS": np.where(admissions["sepsis"] == "none", "OTHER", "SEPSIS").astype(object),
            "HOSPITAL_EXPIRE_FLAG": died.astype(np.int64),
            "HAS_CHARTEVENTS_DATA": 1,
        },
    )
    return admissions.assign(left=left)


def _write_patients(writer: TableWriter, admissions: pd.DataFrame) -> None:
    patients = admissions.drop_duplicates("subject_id", keep="last")
    alive = ~patients["died"].to_numpy(bool)
    writer.write(
        "PATIENTS",
        {
            "SUBJECT_ID": patients["subject_id"],
            "GENDER": pa.array(patients["gender"], pa.string()),
            "DOB": dates(patients["dob"]),
            "DOD": dates(patients["left"], alive),
            "DOD_HOSP": dates(patients["left"], alive),
            "EXPIRE_FLAG": (~alive).astype(np.int64),
        },
    )


def _write_codes(rng: np.random.Generator, writer: TableWriter, admissions: pd.DataFrame) -> None:
    """Write the ICD-9 codes, in random order within an admission."""
    ventilated = rng.random(len(admissions)) < of_unit("ventilated", admissions["unit"].to_numpy())
    # 038.9 with 518.81 satisfies the Martin rule alone only without a ventilation code.
    ventilated &= (admissions["sepsis"] != "martin").to_numpy()
    diagnoses = _sepsis_codes(rng, admissions)
    newborn = (admissions["unit"] == len(UNIT_NAMES) - 1).to_numpy()
    diagnoses["V3000"] = newborn
    for code, share in _COMORBIDITIES.items():
        diagnoses[code] = ~newborn & (rng.random(len(admissions)) < share)
    # Every admission has a diagnosis.
    diagnoses["78609"] = ~np.any(list(diagnoses.values()), axis=0)
    _write_code_table(rng, writer, "DIAGNOSES_ICD", admissions, diagnoses)
    longer = rng.random(len(admissions)) < 0.5
    procedures = {
        "9671": ventilated & ~longer,
        "9672": ventilated & longer,
        "966": rng.random(len(admissions)) < 0.2,
        "3893": rng.random(len(admissions)) < 0.5,
    }
    _write_code_table(rng, writer, "PROCEDURES_ICD", admissions, procedures)


def _sepsis_codes(rng: np.random.Generator, admissions: pd.DataFrame) -> dict[str, Bools]:
    """Return the codes that satisfy the rules of each admission's `sepsis`, and no others."""
    sepsis = admissions["sepsis"]
    explicit = (sepsis == "explicit").to_numpy()
    angus, martin, both = (
        (sepsis == name).to_numpy() for name in ("angus", "martin", "angus and martin")
    )
    some = rng.random((5, len(admissions)))
    shock_only = explicit & (some[0] < 0.06)
    return {
        "99592": explicit & ~shock_only,
        "78552": shock_only | (explicit & (some[1] < 0.45)),
        "99591": (sepsis == "sepsis only").to_numpy(),
        "0389": martin | both | (explicit & (some[2] < 0.75)),
        "486": angus | (explicit & (some[3] < 0.4)),
        "5990": (sepsis == "sepsis only").to_numpy() | (explicit & (some[3] > 0.6)),
        "5849": angus | both | (explicit & (some[4] < 0.55)),
        "51881": martin | (explicit & (some[4] > 0.5)),
    }


def _write_code_table(
    rng: np.random.Generator,
    writer: TableWriter,
    table: str,
    admissions: pd.DataFrame,
    codes: dict[str, Bools],
) -> None:
    given = np.stack(list(codes.values()), axis=1)  # [admissions, codes]
    row, code = np.nonzero(given)
    order = np.lexsort((rng.random(len(row)), row))
    row, code = row[order], code[order]
    counts = given.sum(axis=1)
    number = np.arange(len(row)) - np.repeat(np.cumsum(counts) - counts, counts) + 1
    writer.write(
        table,
        {
            "SUBJECT_ID": admissions["subject_id"].to_numpy()[row],
            "HADM_ID": admissions["hadm_id"].to_numpy()[row],
            "SEQ_NUM": number,
            "ICD9_CODE": np.array(list(codes), dtype=object)[code],
        },
    )
