"""Generator of a realistic CHARTEVENTS.csv.gz of any size, with the small tables it needs.

The properties that determine the cost of a pass are those of the real table: about 100 bytes a row,
one row in six a vital sign, both generations of item ids, quoted texts with commas, empty
ICUSTAY_ID, error flags and exact duplicates. By default the rows of a hundred stays are mixed,
which compresses to about 26 bytes a row. In charted order it is 12, which `gzip -dc` unpacks
faster: the harder comparison.
"""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.csv as pa_csv

ROWS_PER_STAY = 5400
ROWS_PER_HOUR = 60
_ROWS_PER_CHUNK = 540_000
_VITAL_SHARE = 0.17
_OTHER_ITEMS = 2000
_TEXTS = 300
_FIRST_INTIME = np.datetime64("2110-01-01T00:00:00", "s")

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class _Item:
    """Item ids of a vital in the two record systems, and its distribution and unit."""

    carevue: int
    metavision: int
    mean: float
    deviation: float
    unit: str


_VITALS = (
    _Item(211, 220045, 85, 15, "bpm"),
    _Item(51, 220050, 120, 20, "mmHg"),
    _Item(455, 220179, 118, 20, "mmHg"),
    _Item(8368, 220051, 60, 12, "mmHg"),
    _Item(8441, 220180, 62, 12, "mmHg"),
    _Item(52, 220052, 79, 13, "mmHg"),
    _Item(456, 220181, 77, 13, "mmHg"),
    _Item(618, 220210, 19, 5, "insp/min"),
    _Item(678, 223761, 98.4, 1.2, "?F"),
    _Item(676, 223762, 37.0, 0.7, "?C"),
    _Item(646, 220277, 96.5, 2.0, "%"),
)


def write_mimic_folder(
    folder: Path, rows: int, *, charted_order: bool = False, seed: int = 0
) -> None:
    """Write ICUSTAYS.csv, ADMISSIONS.csv and CHARTEVENTS.csv.gz, one ICU stay per patient.

    Args:
        folder: output folder; created if absent.
        rows: rows of CHARTEVENTS, rounded up to whole stays of `ROWS_PER_STAY`.
        charted_order: True to sort rows by stay and chart time.
        seed: seed of everything drawn.
    """
    folder.mkdir(parents=True, exist_ok=True)
    stays = -(-rows // ROWS_PER_STAY)
    rng = np.random.default_rng(seed)
    _write_stays(folder, stays)
    path = folder / "CHARTEVENTS.csv.gz"
    with (
        path.open("wb") as file,
        subprocess.Popen(["gzip", "-6"], stdin=subprocess.PIPE, stdout=file) as gzip,
    ):
        assert gzip.stdin is not None
        writer = None
        per_chunk = _ROWS_PER_CHUNK // ROWS_PER_STAY
        for first in range(0, stays, per_chunk):
            chunk = _chunk(rng, first, min(first + per_chunk, stays), charted_order)
            if writer is None:
                writer = pa_csv.CSVWriter(gzip.stdin, chunk.schema)
            writer.write_table(chunk)
        if writer is not None:
            writer.close()
        gzip.stdin.close()
    if gzip.returncode:
        raise OSError(f"gzip ended with code {gzip.returncode} while writing {path}")


def _write_stays(folder: Path, stays: int) -> None:
    stay = np.arange(stays)
    intime = _intime(stay)
    outtime = intime + np.timedelta64(ROWS_PER_STAY // ROWS_PER_HOUR, "h")
    ids = {"SUBJECT_ID": stay + 1, "HADM_ID": stay + 100_001}
    icustays = {
        **ids,
        "ICUSTAY_ID": stay + 200_001,
        "DBSOURCE": np.where(stay % 2, "metavision", "carevue").tolist(),
        "FIRST_CAREUNIT": ["MICU"] * stays,
        "INTIME": intime,
        "OUTTIME": outtime,
    }
    admissions = {**ids, "ADMITTIME": intime, "DISCHTIME": outtime, "DEATHTIME": [""] * stays}
    pa_csv.write_csv(pa.table(icustays), folder / "ICUSTAYS.csv")
    pa_csv.write_csv(pa.table(admissions), folder / "ADMISSIONS.csv")


def _intime(stay: Ints) -> npt.NDArray[np.datetime64]:
    return _FIRST_INTIME + (stay * 7919 % 50_000_000).astype("timedelta64[m]") // 2


def _chunk(rng: np.random.Generator, first: int, last: int, charted_order: bool) -> pa.Table:
    row = np.arange(first * ROWS_PER_STAY, last * ROWS_PER_STAY)
    stay, place = np.divmod(row if charted_order else rng.permutation(row), ROWS_PER_STAY)
    size = len(row)
    metavision = stay % 2 == 1
    is_vital = rng.random(size) < _VITAL_SHARE
    vital = rng.integers(len(_VITALS), size=size)
    # Squared: a few items make most of the rows, as they do in the real table.
    other = (rng.random(size) ** 2 * _OTHER_ITEMS).astype(np.int64)
    item = np.where(is_vital, _vital_ids(vital, metavision), other + 1000 + 225_000 * metavision)
    tenths = _tenths(rng, vital, is_vital)
    text = ~is_vital & (other % 3 == 0)
    minute = np.where(is_vital, rng.integers(4, size=size) * 15, 0)
    charttime = _intime(stay) + (place // ROWS_PER_HOUR * 60 + minute).astype("timedelta64[m]")
    storetime = charttime + (1 + (place * 7 + stay) // 9 % 50).astype("timedelta64[m]")
    numbers = pa.array([f"{n / 10:g}" for n in range(4001)] + _texts())
    flag = pa.array(np.where(rng.random(size) < 0.002, 1, 0), mask=~metavision)
    columns = {
        "ROW_ID": stay * ROWS_PER_STAY + place + 1,
        "SUBJECT_ID": stay + 1,
        "HADM_ID": stay + 100_001,
        "ICUSTAY_ID": pa.array(stay + 200_001, mask=rng.random(size) < 0.01),
        "ITEMID": item,
        "CHARTTIME": charttime,
        "STORETIME": storetime,
        "CGID": 14_000 + stay * 31 % 4000 + place // 720 % 3,
        "VALUE": numbers.take(pa.array(np.where(text, 4001 + other % _TEXTS, tenths))),
        "VALUENUM": pa.array(tenths / 10, mask=text),
        "VALUEUOM": pa.array(_units()).take(pa.array(np.where(is_vital, vital, len(_VITALS)))),
        "WARNING": pa.array(np.zeros(size, np.int64), mask=~metavision),
        "ERROR": flag,
        "RESULTSTATUS": pa.nulls(size, pa.string()),
        "STOPPED": pa.array(np.full(size, "NotStopd"), mask=metavision),
    }
    return _with_duplicates(rng, pa.table(columns))


def _vital_ids(vital: Ints, metavision: npt.NDArray[np.bool_]) -> Ints:
    carevue = np.array([item.carevue for item in _VITALS])
    new = np.array([item.metavision for item in _VITALS])
    return np.where(metavision, new[vital], carevue[vital])


def _tenths(rng: np.random.Generator, vital: Ints, is_vital: npt.NDArray[np.bool_]) -> Ints:
    mean = np.array([item.mean for item in _VITALS])[vital]
    deviation = np.array([item.deviation for item in _VITALS])[vital]
    drawn = mean + deviation * rng.standard_normal(len(vital))
    # Temperatures have one decimal, the rest is charted in whole numbers.
    fine = np.isin(vital, [8, 9])
    values = np.where(fine, np.round(drawn * 10), np.round(drawn) * 10)
    rest = np.round(rng.exponential(8, len(vital))) * 10
    return np.clip(np.where(is_vital, values, rest), 0, 4000).astype(np.int64)


def _texts() -> list[str]:
    phrases = ("Normal Sinus", "Lungs, clear", "Intact", 'Says "fine"', "Assist Control", "None")
    return [f"{phrases[n % len(phrases)]} {n}" for n in range(_TEXTS)]


def _units() -> list[str | None]:
    return [*(item.unit for item in _VITALS), None]


def _with_duplicates(rng: np.random.Generator, table: pa.Table) -> pa.Table:
    # Instead of other rows, so that the number of rows is kept.
    rows = np.arange(len(table))
    twice = rng.random(len(table)) < 0.003
    rows[twice] = np.maximum(rows[twice] - 1, 0)
    return table.take(pa.array(rows))
