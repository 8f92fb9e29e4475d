"""Time of the extraction of hourly vitals from eICU's vitalPeriodic, compared with `gzip -dc`.

    python benchmarks/extract_eicu.py --rows 20000000

As `extract.py` for MIMIC-III: the same comparison, with all stays of the table kept. Nearly every
row has a vital sign here, where one in six has in CHARTEVENTS.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
from extract import Measurement, costs_table, measure
from extract_eicu_data import STAY_MINUTES, write_eicu_folder
from rich.console import Console

from common.data.vitals import VITAL_NAMES, VITALS
from simulation.cohorts.eicu.schema import eicu_tables
from simulation.cohorts.eicu.vitals import MONITOR_TABLES, eicu_vitals

TARGET_RATIO = 0.8
_AGREEMENT = 1e-4
_KEYS = ["stay_id", "step"]


def main() -> int:
    """Run the comparison; return exit code 1 if ours and pandas disagree."""
    arguments = _arguments()
    if arguments.contender:
        _run_contender(arguments.contender, arguments.folder)
        return 0
    console = Console()
    names = ("ours", "pandas") if arguments.pandas else ("ours",)
    with _folder(arguments.keep) as folder:
        path = folder / "vitalPeriodic.csv.gz"
        if not path.is_file():
            with console.status(f"writing {arguments.rows:,} rows"):
                write_eicu_folder(folder, arguments.rows, charted_order=arguments.charted_order)
        console.print(
            f"{arguments.rows:,} rows, {path.stat().st_size / 1e6:.0f} MB ({os.cpu_count()} cores)"
        )
        best: dict[str, Measurement] = {}
        for _ in range(arguments.repeats):
            # In turn, so that another load on the machine falls on all alike.
            for name in ("gzip -dc", *names):
                measured = _measure(name, folder, path)
                best[name] = min(best.get(name, measured), measured, key=lambda m: m.seconds)
        console.print(costs_table(best, TARGET_RATIO))
        if not arguments.pandas:
            return 0
        difference = _difference(folder)
    agree = difference <= _AGREEMENT
    console.print(f"ours and pandas {'agree' if agree else 'DISAGREE'}: largest {difference:.2g}")
    return 0 if agree else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--rows", type=int, default=2_000_000, help="rows of vitalPeriodic")
    parser.add_argument("--keep", type=Path, help="keep the data in this folder, or use it again")
    parser.add_argument("--repeats", type=int, default=1, help="runs of each; the fastest counts")
    parser.add_argument("--charted-order", action="store_true", help="rows by stay and time")
    parser.add_argument("--pandas", action="store_true", help="compare with pandas as well")
    # How this script calls itself for the contenders.
    parser.add_argument("--contender", choices=("ours", "pandas"), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


@contextmanager
def _folder(keep: Path | None) -> Iterator[Path]:
    if keep is not None:
        yield keep
        return
    with tempfile.TemporaryDirectory(prefix="fedvitals-extract-") as folder:
        yield Path(folder)


def _measure(name: str, folder: Path, path: Path) -> Measurement:
    if name == "gzip -dc":
        return measure(["gzip", "-dc", str(path)], own_clock=False)
    command = [sys.executable, __file__, "--contender", name, "--folder", str(folder)]
    return measure(command, own_clock=True)


def _run_contender(name: str, folder: Path) -> None:
    started = time.perf_counter()
    frame = _by_pandas(folder) if name == "pandas" else _ours(folder)
    print(json.dumps(time.perf_counter() - started))
    frame.to_parquet(folder / f"{name}.parquet")


def _ours(folder: Path) -> pd.DataFrame:
    stays = pd.read_csv(folder / "patient.csv")
    stays["patient_id"] = stays["stay_id"] = stays["patientunitstayid"].astype(str)
    stays["until"] = STAY_MINUTES
    with eicu_tables(folder) as tables:
        frame, _, _ = eicu_vitals(tables, stays, 60)
    return frame[[*_KEYS, *VITAL_NAMES]]


def _by_pandas(folder: Path) -> pd.DataFrame:
    vitals = MONITOR_TABLES[0].vitals
    ids = {"patientunitstayid": np.int32, "observationoffset": np.int32}
    types = {**ids, **dict.fromkeys(vitals, np.float32)}
    rows = pd.read_csv(folder / "vitalPeriodic.csv.gz", usecols=list(types), dtype=types)
    minute = rows["observationoffset"]
    rows = rows[(minute >= 0) & (minute <= STAY_MINUTES)].drop_duplicates()
    rows = rows.rename(columns=dict(vitals))
    for vital in VITALS:
        rows[vital.name] = rows[vital.name].where(vital.valid(rows[vital.name].to_numpy()))
    rows.loc[rows["mbp"] > rows["sbp"], ["sbp", "dbp", "mbp"]] = np.nan
    by_time = rows.groupby(list(ids))[list(VITAL_NAMES)].mean().reset_index()
    by_time["step"] = by_time["observationoffset"] // 60
    by_time["stay_id"] = by_time["patientunitstayid"].astype(str)
    means: pd.DataFrame = by_time.groupby(_KEYS)[list(VITAL_NAMES)].mean()
    return means.dropna(how="all").reset_index()


def _difference(folder: Path) -> float:
    """Return the largest difference of a mean; infinite if the rows or gaps differ."""
    ours, theirs = (
        pd.read_parquet(folder / f"{name}.parquet").sort_values(_KEYS, ignore_index=True)
        for name in ("ours", "pandas")
    )
    if not np.array_equal(ours[_KEYS].to_numpy(), theirs[_KEYS].to_numpy()):
        return float("inf")
    a, b = (frame[list(VITAL_NAMES)].to_numpy(np.float64) for frame in (ours, theirs))
    if not np.array_equal(np.isnan(a), np.isnan(b)):
        return float("inf")
    return float(np.nanmax(np.abs(a - b)))


if __name__ == "__main__":
    sys.exit(main())
