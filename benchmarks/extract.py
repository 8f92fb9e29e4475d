"""Time of the extraction of hourly vitals, compared with `gzip -dc` alone and plain pandas.

    python benchmarks/extract.py --rows 20000000

Makes a CHARTEVENTS.csv.gz with this many rows, then times in one run, each in a process of its own:
`gzip -dc` (which only decompresses), our extraction (one streaming pass and the hourly means) and a
chunked pandas reader that does the same. The means of both must agree. Seconds are wall time
without the start of the interpreter and imports; peak memory is that of the whole process.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from extract_data import write_mimic_folder
from extract_pandas import hourly_vitals_pandas
from rich.console import Console
from rich.table import Table

from common.data.vitals import VITAL_NAMES
from simulation.cohorts.mimic.chartevents import stream_chartevents
from simulation.cohorts.mimic.vitals import VITAL_ITEMS, hourly_vitals
from simulation.cohorts.mimic3.schema import mimic3_tables

TARGET_RATIO = 1.0
TARGET_MB = 1000
_AGREEMENT = 1e-4


@dataclass(frozen=True)
class Measurement:
    """Cost of one contender.

    Attributes:
        seconds: wall time.
        cpu_seconds: processor time of all its threads, including the start of the interpreter.
        peak_mb: largest resident memory; None for gzip, whose few megabytes are below those of the
            process that started it.
    """

    seconds: float
    cpu_seconds: float
    peak_mb: float | None


def main() -> int:
    """Run the comparison; return exit code 1 if ours and pandas disagree."""
    arguments = _arguments()
    if arguments.contender:
        _run_contender(arguments.contender, arguments.folder, arguments.out)
        return 0
    console = Console()
    with _folder(arguments.keep) as folder:
        chartevents = folder / "CHARTEVENTS.csv.gz"
        if not chartevents.is_file():
            with console.status(f"writing {arguments.rows:,} rows"):
                write_mimic_folder(folder, arguments.rows, charted_order=arguments.charted_order)
        size = chartevents.stat().st_size
        console.print(f"{arguments.rows:,} rows, {size / 1e6:.0f} MB ({os.cpu_count()} cores)")
        best: dict[str, Measurement] = {}
        for _ in range(arguments.repeats):
            # In turn, so that another load on the machine falls on all alike.
            for name, measurement in _measure_all(folder, chartevents):
                best[name] = min(best.get(name, measurement), measurement, key=lambda m: m.seconds)
        console.print(costs_table(best))
        difference = _difference(folder)
    agree = difference <= _AGREEMENT
    console.print(f"ours and pandas {'agree' if agree else 'DISAGREE'}: largest {difference:.2g}")
    return 0 if agree else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--rows", type=int, default=2_000_000, help="rows of CHARTEVENTS")
    parser.add_argument("--keep", type=Path, help="keep the data in this folder, or use it again")
    parser.add_argument("--repeats", type=int, default=1, help="runs of each; the fastest counts")
    parser.add_argument(
        "--charted-order",
        action="store_true",
        help="rows in charted order: a smaller file, harder to beat",
    )
    # How this script calls itself for the contenders.
    parser.add_argument("--contender", choices=("ours", "pandas"), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


@contextmanager
def _folder(keep: Path | None) -> Iterator[Path]:
    if keep is not None:
        keep.mkdir(parents=True, exist_ok=True)
        yield keep
        return
    with tempfile.TemporaryDirectory(prefix="fedvitals-extract-") as folder:
        yield Path(folder)


def _run_contender(name: str, folder: Path, out: Path) -> None:
    started = time.perf_counter()
    if name == "pandas":
        frame = hourly_vitals_pandas(folder)
    else:
        with mimic3_tables(folder) as tables:
            stays = tables.load("ICUSTAYS", "the benchmark")
            rows = tables.connection.execute("SELECT DISTINCT subject_id FROM icustays").fetchall()
            subjects = [subject for (subject,) in rows]
            chartevents = stream_chartevents(tables, VITAL_ITEMS, subjects, with_text=False)
            frame, _ = hourly_vitals(tables, stays, chartevents, 60)
    print(json.dumps(time.perf_counter() - started))
    frame.to_parquet(out)


def _measure_all(folder: Path, chartevents: Path) -> Iterator[tuple[str, Measurement]]:
    yield "gzip -dc", measure(["gzip", "-dc", str(chartevents)], own_clock=False)
    for name in ("ours", "pandas"):
        command = [sys.executable, __file__, "--contender", name]
        command += ["--folder", str(folder), "--out", str(folder / f"{name}.parquet")]
        yield name, measure(command, own_clock=True)


def measure(command: list[str], own_clock: bool) -> Measurement:
    """Run a command and return its cost.

    Args:
        command: the command.
        own_clock: whether it prints its seconds itself, without the start of its interpreter.
    """
    started = time.perf_counter()
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE if own_clock else subprocess.DEVNULL, text=True
    )
    output = process.stdout.read() if process.stdout else ""
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with code {process.returncode}")
    return Measurement(
        seconds=json.loads(output) if own_clock else seconds,
        cpu_seconds=usage.ru_utime + usage.ru_stime,
        # Kilobytes on Linux, bytes on macOS.
        peak_mb=usage.ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3) if own_clock else None,
    )


def costs_table(best: dict[str, Measurement], target_ratio: float = TARGET_RATIO) -> Table:
    """Return a table of the costs of each contender, as multiples of those of `gzip -dc`."""
    table = Table(title=f"Target: at most {target_ratio:g} x gzip -dc and {TARGET_MB} MB")
    table.add_column("contender")
    for column in ("wall s", "x gzip -dc", "CPU s", "peak MB"):
        table.add_column(column, justify="right")
    for name, measured in best.items():
        table.add_row(
            name,
            f"{measured.seconds:.2f}",
            f"{measured.seconds / best['gzip -dc'].seconds:.2f}",
            f"{measured.cpu_seconds:.2f}",
            "-" if measured.peak_mb is None else f"{measured.peak_mb:.0f}",
        )
    return table


def _difference(folder: Path) -> float:
    """Return the largest difference of a mean; infinite if the rows or gaps differ."""
    keys = ["patient_id", "stay_id", "step"]
    ours, theirs = (
        pd.read_parquet(folder / f"{name}.parquet").sort_values(keys, ignore_index=True)
        for name in ("ours", "pandas")
    )
    if not ours[keys].equals(theirs[keys]):
        return float("inf")
    a, b = (frame[list(VITAL_NAMES)].to_numpy(np.float64) for frame in (ours, theirs))
    if not np.array_equal(np.isnan(a), np.isnan(b)):
        return float("inf")
    return float(np.nanmax(np.abs(a - b)))


if __name__ == "__main__":
    sys.exit(main())
