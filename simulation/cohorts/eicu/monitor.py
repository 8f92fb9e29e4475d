"""Vital signs of the bedside monitor, 146 million rows in the full set, summed per time step.

A row has all values of a moment. Nearly every moment has one row, so each row is added to the sums
of its step while the file is read. Moments with several rows are found in the same pass; afterwards
their rows are taken out of the sums, freed of duplicates, averaged per moment and added again. All
sums are of integers, so neither the order of the rows nor that of the threads has an effect.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import duckdb
import pandas as pd
import pyarrow as pa

from common.data.step_means import MINUTE_US, step_sums
from common.data.vitals import VITAL_NAMES
from common.files.hashing import ReadProgress
from simulation.cohorts.eicu.monitor_sums import MonitorSums
from simulation.cohorts.eicu.monitor_values import MonitorTable, clean_values, value_reasons
from simulation.cohorts.eicu.repeated_moments import RepeatedMoments
from simulation.cohorts.eicu.stay_rows import DUPLICATE, StayTimes
from simulation.cohorts.source_tables import SourceTables


def sum_monitor(
    tables: SourceTables,
    table: MonitorTable,
    stays: pd.DataFrame,
    step_minutes: int,
    progress: ReadProgress | None = None,
) -> tuple[str, dict[str, int]]:
    """Read a table of the monitor once, clean it and sum it per stay, time step and vital sign.

    Of equal rows all but one are duplicates; `clean_values` has the rules for values.

    Args:
        tables: the eICU tables.
        table: the table. The sums are in the DuckDB table of its name in lower case.
        stays: `patientunitstayid` and `until`, the minute of discharge.
        step_minutes: length of a step.
        progress: called with the bytes of the file read so far and its size.

    Returns:
        A query as of `common.data.step_means.step_sums`; and the number of rows and of values
        dropped, by reason, if any.

    Raises:
        SourceError: the table or a column is missing, or the file is damaged.
    """
    times = StayTimes(stays)
    with RepeatedMoments(times.until, table.schema, tables.scratch_folder) as moments:
        sums = MonitorSums(table, times, moments, step_minutes)
        types = dict(zip(table.schema.names, table.schema.types, strict=True))
        tables.stream(
            table.name, "the vital signs", list(types), types, sums, progress, derived=sums.schema
        )
        _create_repeated(tables.connection, table, moments.candidates())
    _take_out_repeated(tables.connection, table, step_minutes)
    duplicates, lost = _count_copies(tables.connection, table)
    dropped = sums.dropped
    dropped.subtract(lost)
    dropped[DUPLICATE] = duplicates
    query = f"{_unpivot(table)} UNION ALL {step_sums(_measurements(table), step_minutes)}"
    return query, {reason: count for reason, count in dropped.items() if count}


def _create_repeated(
    connection: duckdb.DuckDBPyConnection,
    table: MonitorTable,
    candidates: Iterator[pa.RecordBatch],
) -> None:
    """Create the table of distinct rows of moments with several rows, each with its `copies`.

    Beside the columns of the file it has the cleaned values, COLUMN_scaled, and for each reason a
    column of its name: whether the row loses a value for it.
    """
    with_values = (_with_clean_values(table, rows) for rows in candidates)
    schema = _with_clean_values(table, pa.RecordBatch.from_pylist([], table.schema)).schema
    connection.register("candidates", pa.RecordBatchReader.from_batches(schema, with_values))
    connection.execute(
        f"""
        CREATE OR REPLACE TABLE {_repeated(table)} AS
        SELECT * FROM (
            SELECT *, patientunitstayid AS stay, observationoffset AS minute, count(*) AS copies
            FROM candidates GROUP BY ALL
        ) QUALIFY sum(copies) OVER (PARTITION BY stay, minute) > 1"""
    )
    connection.unregister("candidates")


def _with_clean_values(table: MonitorTable, rows: pa.RecordBatch) -> pa.RecordBatch:
    values = clean_values(table, rows)
    columns = dict(zip(rows.schema.names, rows.columns, strict=True))
    columns |= {f"{column}_scaled": scaled for column, scaled in values.scaled.items()}
    columns |= {reason: pa.array(lost) for reason, lost in values.dropped.items()}
    return pa.RecordBatch.from_pydict(columns)


def _take_out_repeated(
    connection: duckdb.DuckDBPyConnection, table: MonitorTable, step_minutes: int
) -> None:
    """Add the sums of the repeated moments' rows, made negative, to the table of sums."""
    sums = ", ".join(
        f"-sum(copies * {column}_scaled), -sum(copies) FILTER ({column}_scaled IS NOT NULL)"
        for column in table.vitals
    )
    connection.execute(
        f"INSERT INTO {table.name} SELECT stay, minute // {step_minutes} AS step, {sums} "
        f"FROM {_repeated(table)} GROUP BY ALL"
    )


def _count_copies(
    connection: duckdb.DuckDBPyConnection, table: MonitorTable
) -> tuple[int, dict[str, int]]:
    """Return the number of duplicates, and of the values that they lost, by reason."""
    reasons = value_reasons(table)
    lost = [f'sum(copies - 1) FILTER ("{reason}")' for reason in reasons]
    counts = ", ".join(f"coalesce({count}, 0)::BIGINT" for count in ["sum(copies - 1)", *lost])
    (numbers,) = connection.execute(f"SELECT {counts} FROM {_repeated(table)}").fetchall()
    duplicates, *values = numbers
    return duplicates, dict(zip(reasons, values, strict=True))


def _unpivot(table: MonitorTable) -> str:
    return _union(
        f"SELECT stay, step, {VITAL_NAMES.index(vital)} AS vital, {table.rank} AS rank, "
        f"{column}_sum AS total, {column}_count AS times "
        f"FROM {table.name} WHERE {column}_count <> 0"
        for column, vital in table.vitals.items()
    )


def _measurements(table: MonitorTable) -> str:
    return _union(
        f"SELECT stay, minute::BIGINT * {MINUTE_US} AS since_us, "
        f"{VITAL_NAMES.index(vital)} AS vital, {table.rank} AS rank, {column}_scaled AS scaled "
        f"FROM {_repeated(table)} WHERE {column}_scaled IS NOT NULL"
        for column, vital in table.vitals.items()
    )


def _union(queries: Iterable[str]) -> str:
    return " UNION ALL ".join(queries)


def _repeated(table: MonitorTable) -> str:
    return f"{table.name}_repeated"
