"""Hourly vitals by a plain chunked pandas reader, to compare time and result."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from common.data.vitals import VITAL_NAMES, VITALS
from simulation.cohorts.mimic.vitals import ITEMS_OF_VITAL, VITAL_ITEMS

_CHUNK_ROWS = 1_000_000
_COLUMNS = ["SUBJECT_ID", "ITEMID", "CHARTTIME", "VALUENUM", "ERROR"]
_KEYS = ["patient_id", "stay_id", "step"]


def hourly_vitals_pandas(folder: Path) -> pd.DataFrame:
    """Return the result of `hourly_vitals` with steps of 60 minutes, one ICU stay per patient.

    Args:
        folder: a folder of `extract_data.write_mimic_folder`.
    """
    chunks = pd.read_csv(folder / "CHARTEVENTS.csv.gz", usecols=_COLUMNS, chunksize=_CHUNK_ROWS)
    rows = pd.concat([chunk[chunk["ITEMID"].isin(VITAL_ITEMS)] for chunk in chunks])
    rows = rows[rows["ERROR"] != 1].drop_duplicates(_COLUMNS[:4])
    rows["CHARTTIME"] = pd.to_datetime(rows["CHARTTIME"])
    stays = pd.read_csv(folder / "ICUSTAYS.csv", parse_dates=["INTIME", "OUTTIME"])
    rows = rows.merge(stays[["SUBJECT_ID", "ICUSTAY_ID", "INTIME", "OUTTIME"]], on="SUBJECT_ID")
    rows = rows[rows["CHARTTIME"].between(rows["INTIME"], rows["OUTTIME"])]
    rows = pd.concat([_valid(rows, index) for index in range(len(VITALS))])
    by_time = rows.groupby(["SUBJECT_ID", "ICUSTAY_ID", "INTIME", "CHARTTIME", "vital"])["value"]
    means = by_time.mean().reset_index()
    means["step"] = (means["CHARTTIME"] - means["INTIME"]).dt.total_seconds() // 3600
    means["patient_id"] = means["SUBJECT_ID"].astype(str)
    means["stay_id"] = means["ICUSTAY_ID"].astype(str)
    wide = means.pivot_table(index=_KEYS, columns="vital", values="value", aggfunc="mean")
    return wide.reindex(columns=list(VITAL_NAMES)).reset_index().astype({"step": "int32"})


def _valid(rows: pd.DataFrame, index: int) -> pd.DataFrame:
    vital = VITALS[index]
    items = ITEMS_OF_VITAL[vital.name]
    rows = rows[rows["ITEMID"].isin(items.all)]
    fahrenheit = rows["ITEMID"].isin(items.fahrenheit)
    raw = rows["VALUENUM"]
    possible = vital.valid(raw.to_numpy()) & ~fahrenheit | (fahrenheit & (raw > 70) & (raw < 120))
    value = raw.where(~fahrenheit, (raw - 32) / 1.8)
    return rows.assign(value=value, vital=vital.name)[possible]
