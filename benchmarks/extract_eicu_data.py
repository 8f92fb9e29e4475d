"""Generator of a realistic vitalPeriodic.csv.gz of any size, with the patient table it needs.

The properties that determine the cost of a pass are those of the real table: 19 columns of which
four are filled on average, a row every five minutes, one stay in six with an arterial line, values
that change slowly, exact duplicates, zeros, and offsets before the admission.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.csv as pa_csv

ROWS_PER_STAY = 720
ROW_MINUTES = 5
STAY_MINUTES = ROWS_PER_STAY * ROW_MINUTES
_STAYS_PER_CHUNK = 500
_EMPTY = ("pasystolic", "padiastolic", "pamean", "st1", "st2", "st3", "icp")
# Mean, deviation between stays, and step of the walk within a stay.
_WALKS = {
    "temperature": (37.0, 0.5, 0.1),
    "sao2": (96.0, 1.5, 0.6),
    "heartrate": (85.0, 15.0, 2.0),
    "respiration": (19.0, 4.0, 2.0),
    "systemicsystolic": (120.0, 18.0, 3.0),
    "systemicdiastolic": (60.0, 10.0, 2.0),
}

Floats = npt.NDArray[np.float64]


def write_eicu_folder(
    folder: Path, rows: int, *, charted_order: bool = False, seed: int = 0
) -> None:
    """Write patient.csv and vitalPeriodic.csv.gz, and the other two tables of vitals without rows.

    Args:
        folder: output folder; created if absent.
        rows: rows of vitalPeriodic, rounded up to whole stays of `ROWS_PER_STAY`.
        charted_order: True to sort rows by stay and time; else the rows of 100 stays are mixed.
        seed: seed of everything drawn.
    """
    folder.mkdir(parents=True, exist_ok=True)
    stays = -(-rows // ROWS_PER_STAY)
    ids = _stay_ids(np.arange(stays))
    pd.DataFrame({"patientunitstayid": ids}).to_csv(folder / "patient.csv", index=False)
    header = "patientunitstayid,observationoffset,noninvasivesystolic,noninvasivediastolic"
    (folder / "vitalAperiodic.csv").write_text(f"{header},noninvasivemean\n")
    labels = "nursingchartcelltypevallabel,nursingchartcelltypevalname"
    header = f"patientunitstayid,nursingchartoffset,{labels},nursingchartvalue"
    (folder / "nurseCharting.csv").write_text(f"{header}\n")
    rng = np.random.default_rng(seed)
    with (
        (folder / "vitalPeriodic.csv.gz").open("wb") as file,
        subprocess.Popen(["gzip", "-6"], stdin=subprocess.PIPE, stdout=file) as gzip,
    ):
        assert gzip.stdin is not None
        writer = None
        for first in range(0, stays, _STAYS_PER_CHUNK):
            chunk = _chunk(rng, first, min(first + _STAYS_PER_CHUNK, stays), charted_order)
            if writer is None:
                options = pa_csv.WriteOptions(quoting_style="none")
                writer = pa_csv.CSVWriter(gzip.stdin, chunk.schema, write_options=options)
            writer.write_table(chunk)
        if writer is not None:
            writer.close()
        gzip.stdin.close()
    if gzip.returncode:
        raise OSError(f"gzip ended with code {gzip.returncode}")


def _stay_ids(stay: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    return 141_000 + 37 * stay


def _chunk(rng: np.random.Generator, first: int, last: int, charted_order: bool) -> pa.Table:
    stays = last - first
    size = stays * ROWS_PER_STAY
    stay, place = np.divmod(np.arange(size), ROWS_PER_STAY)
    walks = {
        name: _walk(rng, stays, *parameters).round(1 if name == "temperature" else 0)
        for name, parameters in _WALKS.items()
    }
    walks["sao2"] = np.minimum(walks["sao2"], 100)
    diastolic = walks["systemicdiastolic"]
    walks["systemicmean"] = ((walks["systemicsystolic"] + 2 * diastolic) / 3).round()
    walks["heartrate"][rng.random(size) < 0.001] = 0
    filled = {"sao2": 0.9, "heartrate": 0.99, "respiration": 0.88}
    probe, arterial = (rng.random(stays) < share for share in (0.09, 0.17))
    missing = {
        name: ~probe[stay] if name == "temperature" else ~arterial[stay]
        for name in walks
        if name not in filled
    } | {name: rng.random(size) >= share for name, share in filled.items()}
    columns = {
        "vitalperiodicid": 37_000_000 + first * ROWS_PER_STAY + np.arange(size),
        "patientunitstayid": _stay_ids(first + stay),
        "observationoffset": place * ROW_MINUTES + (stay % 9) - 4,
    }
    order = ("temperature", "sao2", "heartrate", "respiration")
    columns |= {name: _numbers(walks[name], missing[name]) for name in order}
    columns |= {name: pa.nulls(size, pa.int64()) for name in ("cvp", "etco2")}
    invasive = ("systemicsystolic", "systemicdiastolic", "systemicmean")
    columns |= {name: _numbers(walks[name], missing[name]) for name in invasive}
    columns |= {name: pa.nulls(size, pa.int64()) for name in _EMPTY}
    rows = np.arange(size)
    if not charted_order:
        # Within blocks of 100 stays, as the rows of several beds come in.
        rows = np.lexsort((rng.random(size), stay // 100))
    # Duplicates instead of other rows, so that the number of rows is kept.
    twice = rng.random(size) < 0.003
    rows[twice] = rows[np.maximum(np.flatnonzero(twice) - 1, 0)]
    return pa.table(columns).take(pa.array(rows))


def _walk(
    rng: np.random.Generator, stays: int, mean: float, deviation: float, step: float
) -> Floats:
    steps = rng.normal(0, step, (stays, ROWS_PER_STAY)).cumsum(axis=1) / 2
    values = mean + rng.normal(0, deviation, (stays, 1)) + steps
    return np.asarray(np.clip(values, mean / 3, mean * 2).ravel())


def _numbers(values: Floats, missing: npt.NDArray[np.bool_]) -> pa.Array:
    whole = (values == values.round()).all()
    return pa.array(values.astype(np.int64) if whole else values, mask=missing)
