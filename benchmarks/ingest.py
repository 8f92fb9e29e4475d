"""Speed of `client ingest` on a hospital's long table, compared with a chunked pandas reader.

    python benchmarks/ingest.py --rows 20000000

Makes an observations.csv.gz with this many unordered rows, one in twenty a duplicate and half of
them of other codes, then times in one run, each in a process of its own: our ingest, from the file
to the site table on disk, and a pandas reader that computes the same hourly means (and does not
split, check or write them). The means must agree. Seconds are wall time without the start of the
interpreter.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv as pa_csv
from rich.console import Console
from rich.table import Table

from common.data.vitals import VITAL_NAMES, VITALS

ROWS_A_STAY = 5000
HOURS_A_STAY = 100
_CHUNK_STAYS = 200
_OTHER_CODES = 7
_DUPLICATE_SHARE = 0.05
_PANDAS_ROWS = 1_000_000
_AGREEMENT = 1e-4
_START = np.datetime64("2020-01-01T00:00:00", "s")
_KEYS = ["stay_id", "step"]
_MAPPING = """
site = "bench"
shape = "long"
[columns]
patient = "patient"
time = "time"
code = "code"
value = "value"
[time]
zone = "UTC"
[stay]
id = "stay"
[cohort]
rule = "all"
min-hours = 0
"""


@dataclass(frozen=True)
class Measurement:
    """Cost of one contender: wall seconds and largest resident memory."""

    seconds: float
    peak_mb: float


def main() -> int:
    """Run the comparison; return exit code 1 if ours and pandas disagree."""
    arguments = _arguments()
    if arguments.contender:
        _contend(arguments.contender, arguments.folder, arguments.memory_gb)
        return 0
    console = Console()
    with tempfile.TemporaryDirectory(prefix="fedvitals-ingest-") as scratch:
        folder = Path(scratch)
        with console.status(f"writing {arguments.rows:,} rows"):
            rows = write_table(folder, arguments.rows)
        size = (folder / "observations.csv.gz").stat().st_size
        console.print(f"{rows:,} rows, {size / 1e6:.0f} MB ({os.cpu_count()} cores)")
        names = ("ours",) if arguments.alone else ("ours", "pandas")
        measured = {name: _measure(name, folder, arguments.memory_gb) for name in names}
        console.print(_table(measured, rows))
        if arguments.alone:
            return 0
        difference = _difference(folder)
    agree = difference <= _AGREEMENT
    console.print(f"ours and pandas {'agree' if agree else 'DISAGREE'}: largest {difference:.2g}")
    return 0 if agree else 1


def write_table(folder: Path, rows: int, seed: int = 0) -> int:
    """Write observations.csv.gz and mapping.toml; return the number of rows."""
    rng = np.random.default_rng(seed)
    text = _MAPPING + "".join(f'[vitals.{v.name}]\ncodes = ["{v.short}"]\n' for v in VITALS)
    (folder / "mapping.toml").write_text(text)
    codes = np.array([v.short for v in VITALS] + [f"OTHER-{n}" for n in range(_OTHER_CODES)])
    level = np.array([v.clinical_offset for v in VITALS] + [1.0] * _OTHER_CODES)
    spread = np.array([v.scale_floor for v in VITALS] + [0.1] * _OTHER_CODES)
    written = 0
    with (
        (folder / "observations.csv.gz").open("wb") as file,
        subprocess.Popen(["gzip", "-1"], stdin=subprocess.PIPE, stdout=file) as gzip,
    ):
        assert gzip.stdin is not None
        writer = None
        while written < rows:
            first = written // ROWS_A_STAY
            count = min(_CHUNK_STAYS * ROWS_A_STAY, rows - written)
            stay = first + rng.integers(0, _CHUNK_STAYS, count)
            kind = rng.integers(0, len(codes), count)
            second = rng.integers(0, HOURS_A_STAY * 3600, count)
            value = np.minimum(np.round(rng.normal(level[kind], spread[kind]), 1), 300)
            columns = {
                "patient": stay // 2,
                "stay": stay,
                "time": _START + stay * 3600 + second,
                "code": codes[kind],
                "value": value,
            }
            again = rng.random(count) < _DUPLICATE_SHARE
            table = pa.table(
                {name: np.where(again, np.roll(c, 1), c) for name, c in columns.items()}
            )
            if writer is None:
                writer = pa_csv.CSVWriter(gzip.stdin, table.schema)
            writer.write_table(table)
            written += count
        if writer is not None:
            writer.close()
        gzip.stdin.close()
    return written


def hourly_pandas(path: Path) -> pd.DataFrame:
    """Return the hourly means, by a plain chunked pandas reader."""
    names = dict(zip((v.short for v in VITALS), VITAL_NAMES, strict=True))
    chunks = pd.read_csv(path, chunksize=_PANDAS_ROWS)
    rows = pd.concat([chunk[chunk["code"].isin(list(names))] for chunk in chunks])
    rows = rows.drop_duplicates()
    rows["time"] = pd.to_datetime(rows["time"])
    rows["vital"] = rows["code"].map(names)
    possible = np.zeros(len(rows), dtype=bool)
    for vital in VITALS:
        of_vital = (rows["vital"] == vital.name).to_numpy()
        possible |= of_vital & vital.valid(rows["value"].to_numpy())
    rows = rows[possible]
    start = rows.groupby("stay")["time"].transform("min")
    rows["step"] = (rows["time"] - start).dt.total_seconds() // 3600
    by_time = rows.groupby(["stay", "step", "time", "vital"])["value"].mean().reset_index()
    wide = by_time.pivot_table(index=["stay", "step"], columns="vital", values="value")
    wide = wide.reindex(columns=list(VITAL_NAMES)).reset_index()
    return wide.rename(columns={"stay": "stay_id"}).astype({"stay_id": str, "step": "int32"})


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--rows", type=int, default=2_000_000, help="rows of the table")
    parser.add_argument("--memory-gb", type=float, default=2.0, help="bound on our queries")
    parser.add_argument("--alone", action="store_true", help="without pandas, for large tables")
    # How this script calls itself for the contenders.
    parser.add_argument("--contender", choices=("ours", "pandas"), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def _contend(name: str, folder: Path, memory_gb: float) -> None:
    from client.ingest.mapping.site_mapping import read_mapping
    from client.ingest.pipeline.pipeline import ingest_tables

    table = folder / "observations.csv.gz"
    started = time.perf_counter()
    if name == "pandas":
        frame = hourly_pandas(table)
        print(json.dumps(time.perf_counter() - started))
        frame.to_parquet(folder / "pandas.parquet")
        return
    mapping = read_mapping(folder / "mapping.toml")
    ingest_tables(mapping, [table], folder / "out", secret=folder / "secret", memory_gb=memory_gb)
    print(json.dumps(time.perf_counter() - started))


def _measure(name: str, folder: Path, memory_gb: float) -> Measurement:
    command = [sys.executable, __file__, "--contender", name, "--folder", str(folder)]
    command += ["--memory-gb", str(memory_gb)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{name} ended with code {process.returncode}")
    # Kilobytes on Linux, bytes on macOS.
    return Measurement(
        json.loads(output), usage.ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)
    )


def _table(measured: dict[str, Measurement], rows: int) -> Table:
    table = Table(title="A long .csv.gz table to hourly means")
    table.add_column("contender")
    for column in ("wall s", "rows a second", "x ours", "peak MB"):
        table.add_column(column, justify="right")
    for name, measurement in measured.items():
        table.add_row(
            name,
            f"{measurement.seconds:.1f}",
            f"{rows / measurement.seconds:,.0f}",
            f"{measurement.seconds / measured['ours'].seconds:.2f}",
            f"{measurement.peak_mb:,.0f}",
        )
    return table


def _difference(folder: Path) -> float:
    """Return the largest difference of a mean; infinite if the rows or gaps differ."""
    ours = pd.read_parquet(folder / "out" / "sites" / "bench.parquet")
    ours = ours[ours[list(VITAL_NAMES)].notna().any(axis=1)]
    theirs = pd.read_parquet(folder / "pandas.parquet")
    ours, theirs = (frame.sort_values(_KEYS, ignore_index=True) for frame in (ours, theirs))
    if not ours[_KEYS].equals(theirs[_KEYS]):
        return float("inf")
    a, b = (frame[list(VITAL_NAMES)].to_numpy(np.float64) for frame in (ours, theirs))
    if not np.array_equal(np.isnan(a), np.isnan(b)):
        return float("inf")
    return float(np.nanmax(np.abs(a - b)))


if __name__ == "__main__":
    sys.exit(main())
