"""Shards of a MEDS data set: found, checked, and their events of chosen codes loaded into DuckDB.

MEDS 0.3 and 0.4 (github.com/Medical-Event-Data-Standard/meds): Parquet files below `data/` with
`subject_id`, `time` (null = static), `code` and `numeric_value`. A column `value` of numbers is
read in place of `numeric_value`.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from common.data.streams.parquet_stream import ParquetStream
from common.errors import SourceError
from common.files.hashing import ReadProgress
from simulation.cohorts.files.published_folder import PublishedSums, files_below
from simulation.cohorts.meds.codes import MedsCodes, matches

EVENTS = "meds_events"
_DATA = "data"
_SUFFIX = ".parquet"
_VALUES = ("numeric_value", "value")
_TYPES = {
    "subject_id": (pa.types.is_integer, "whole numbers"),
    "time": (pa.types.is_timestamp, "timestamps"),
    "code": (lambda kind: _is_text(kind), "texts"),
}


def find_shards(place: Path) -> list[Path]:
    """Return the Parquet files of events, sorted.

    Args:
        place: the data set's folder, which has `data/`; or a folder of shards, or one shard.

    Raises:
        SourceError: there is none (names a near folder that has some), a published one is absent,
            or a folder cannot be read.
    """
    if place.is_file():
        return [place]
    if not place.is_dir():
        raise SourceError(f"{place} does not exist; give the folder or a file of the MEDS data")
    root = place / _DATA if (place / _DATA).is_dir() else place
    near = [folder for folder in sorted(place.glob(f"*/{_DATA}")) if folder.is_dir()]
    if root == place and near:
        raise SourceError(f"{place} has no folder {_DATA}; give {near[0].parent}, which has it")
    if root == place and place.resolve().name == "metadata":
        raise SourceError(f"{place} holds no events; give the folder above it")
    PublishedSums(root).check_complete(_is_shard)
    try:
        shards = sorted(files_below(root, _is_shard))
    except OSError as error:
        raise SourceError(f"{root} cannot be read: {error}") from error
    if not shards:
        raise SourceError(f"{root} holds no {_SUFFIX} file of MEDS events")
    return shards


def _is_shard(name: str) -> bool:
    return name.endswith(_SUFFIX)


def load_events(
    connection: duckdb.DuckDBPyConnection,
    shards: list[Path],
    codes: MedsCodes,
    progress: ReadProgress | None = None,
) -> dict[str, dict[str, Any]]:
    """Read the shards once each and keep the events of the table's codes.

    Args:
        connection: gets the table `EVENTS`: `subject_id`, `time`, `code` and `value`.
        shards: the files.
        codes: the table of codes.
        progress: called with the bytes read so far and those of all shards.

    Returns:
        `file`, `bytes` and `sha256` of each shard, by its path below the folder of all.

    Raises:
        SourceError: a shard is damaged or not the published one, or lacks a column or has it in
            another type.
    """
    connection.execute(
        f"CREATE OR REPLACE TABLE {EVENTS} "
        "(subject_id BIGINT, time TIMESTAMP, code VARCHAR, value DOUBLE)"
    )
    # Checked before anything is read, not an hour into the pass.
    values = [_value_column(path) for path in shards]
    if not any(values):
        raise SourceError(
            f"MEDS: no file of {shards[0].parent} has a column {_VALUES[0]}; without numbers there "
            "are no vital signs"
        )
    wanted = _Wanted(codes)
    folder = Path(os.path.commonpath([path.parent for path in shards]))
    sums = PublishedSums(folder)
    digests, done, total = {}, 0, sum(path.stat().st_size for path in shards)
    for path in shards:

        def shard_progress(read: int, _: int, before: int = done) -> None:
            if progress is not None:
                progress(before + read, total)

        name = path.relative_to(folder).as_posix()
        digests[name] = _load_shard(connection, path, wanted, shard_progress)
        sums.check(path, digests[name]["sha256"])
        done += path.stat().st_size
    return digests


class _Wanted:
    """Filter of a batch's rows by the codes of the table; each distinct code is matched once."""

    def __init__(self, codes: MedsCodes) -> None:
        self._patterns = codes.patterns
        self._known: dict[str, bool] = {}

    def keep(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        for code in batch["code"].unique().to_pylist():
            if code is not None and code not in self._known:
                self._known[code] = matches(code, self._patterns)
        wanted = pa.array([code for code, is_wanted in self._known.items() if is_wanted])
        return batch.filter(pc.is_in(batch["code"], value_set=wanted.cast(pa.string())))


def _load_shard(
    connection: duckdb.DuckDBPyConnection, path: Path, wanted: _Wanted, progress: ReadProgress
) -> dict[str, Any]:
    value = _value_column(path)
    types: dict[str, pa.DataType | None] = {
        "subject_id": pa.int64(),
        "time": pa.timestamp("us"),
        "code": pa.string(),
    }
    if value is not None:
        types[value] = pa.float64()
    stream = ParquetStream(path, "MEDS", types, keep=wanted.keep, progress=progress)
    for batch in stream.batches():
        connection.register("meds_batch", pa.Table.from_batches([batch]))
        connection.execute(
            f"INSERT INTO {EVENTS} SELECT subject_id, time, code, {value or 'NULL'} FROM meds_batch"
        )
        connection.unregister("meds_batch")
    return stream.digest()


def _value_column(path: Path) -> str | None:
    """Return the column of numbers, None if the shard has none; check the types of all columns."""
    try:
        schema = pq.read_schema(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise SourceError(f"MEDS: {path} cannot be read as Parquet: {error}") from error
    kinds = {field.name.lower(): field.type for field in schema}
    for name, (is_right, what) in _TYPES.items():
        if name in kinds and not is_right(kinds[name]):
            raise _wrong_type(path, name, kinds[name], what)
    for name in _VALUES:
        if name in kinds:
            if not (pa.types.is_floating(kinds[name]) or pa.types.is_integer(kinds[name])):
                raise _wrong_type(path, name, kinds[name], "numbers")
            return name
    return None


def _is_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _wrong_type(path: Path, name: str, kind: pa.DataType, what: str) -> SourceError:
    return SourceError(f"MEDS: {path} holds {name} as {kind}; MEDS has {what} there")
