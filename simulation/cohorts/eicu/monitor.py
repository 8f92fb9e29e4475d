"""Vital signs of the bedside monitor, 146 million rows in the full set, summed per time step.

A row has all values of a moment. Nearly every moment has one row, so its values are summed as they
are; moments with several rows are found first, freed of duplicates and averaged. No row is sorted
and few are grouped by moment, which would take most of the time of a pass and of its memory.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

import duckdb
import pyarrow as pa

from common.data.step_means import MILLIONTHS, MINUTE_US, step_sums
from common.data.vitals import VITAL_NAMES, VITALS
from common.files.hashing import ReadProgress
from simulation.cohorts.eicu.stay_rows import STAYS, StayFilter, outside_the_stay
from simulation.cohorts.source_tables import SourceTables

DUPLICATE = "duplicate row"
MEAN_ABOVE_SYSTOLIC = "mean pressure above systolic"

_BLOCK_MINUTES = 64
"""Minutes in which a moment is one bit of an integer."""


@dataclass(frozen=True)
class MonitorTable:
    """A table of the monitor.

    Attributes:
        name: in the schema.
        vitals: vital sign of each column with measurements.
        rank: see `common.data.step_means.step_sums`.
        systolic, mean: columns of two pressures of one moment.
    """

    name: str
    vitals: Mapping[str, str]
    rank: int
    systolic: str
    mean: str


def stream_monitor(
    tables: SourceTables,
    table: MonitorTable,
    stays: Collection[int],
    progress: ReadProgress | None = None,
) -> None:
    """Read a table of the monitor once and keep the rows of the chosen stays that have a value.

    Args:
        tables: the eICU tables.
        table: the table; it becomes the DuckDB table of its name in lower case.
        stays: the `patientunitstayid` to keep.
        progress: called with the bytes of the file read so far and its size.

    Raises:
        SourceError: the table or a column is missing, or the file is damaged.
    """
    keys = {
        "patientunitstayid": pa.int32(),
        "observationoffset": pa.int32(),
        **dict.fromkeys(table.vitals, pa.float32()),
    }
    keep = StayFilter(stays).and_any_value(table.vitals)
    tables.stream(table.name, "the vital signs", list(keys), keys, keep, progress)


def sum_monitor(
    connection: duckdb.DuckDBPyConnection, table: MonitorTable, step_minutes: int
) -> tuple[str, dict[str, int]]:
    """Clean a table of the monitor and sum its values per stay, time step and vital sign.

    Of equal rows all but one are duplicates. A row's pressures are dropped together if the mean is
    above the systolic one, since either may be wrong.

    Args:
        connection: has the table, of `stream_monitor`, and `STAYS`. The table is dropped.
        table: the table.
        step_minutes: length of a step.

    Returns:
        A query as of `common.data.step_means.step_sums`; and the number of rows and of values
        dropped, by reason, if any.
    """
    name = table.name.lower()
    columns = ", ".join(table.vitals)
    stay_and_minute = "patientunitstayid AS stay, observationoffset AS minute"
    dropped = _count_outside(connection, name)
    connection.execute(
        f"""
        CREATE OR REPLACE TEMP VIEW {name}_inside AS
        SELECT {stay_and_minute}, {columns} FROM {name} JOIN {STAYS} USING (patientunitstayid)
        WHERE minute BETWEEN 0 AND until"""
    )
    dropped[DUPLICATE] = _split_repeated(connection, name)
    once = f"SELECT * FROM {name}_inside ANTI JOIN {name}_times USING (stay, minute)"
    repeated = f"SELECT * FROM {name}_repeated"
    dropped |= _count_values(connection, table, f"{once} UNION ALL {repeated}")
    _sum_wide(connection, table, once, step_minutes)
    connection.execute(
        f"CREATE OR REPLACE TABLE {name}_repeated_sums AS "
        + step_sums(_measurements(table, repeated), step_minutes)
    )
    connection.execute(f"DROP VIEW {name}_inside")
    connection.execute(f"DROP TABLE {name}")
    sums = f"{_unpivot(table)} UNION ALL SELECT * FROM {name}_repeated_sums"
    return sums, {reason: count for reason, count in dropped.items() if count}


def _count_outside(connection: duckdb.DuckDBPyConnection, name: str) -> dict[str, int]:
    rows = connection.execute(
        f"""
        SELECT {outside_the_stay("observationoffset")} AS reason, count(*)
        FROM {name} JOIN {STAYS} USING (patientunitstayid)
        WHERE observationoffset IS NULL OR observationoffset NOT BETWEEN 0 AND until
        GROUP BY reason"""
    ).fetchall()
    return dict(rows)


def _split_repeated(connection: duckdb.DuckDBPyConnection, name: str) -> int:
    """Create the tables of moments with several rows, and of their distinct rows.

    Returns:
        The number of rows that are equal to another one.
    """
    connection.execute(
        f"""
        CREATE OR REPLACE TEMP TABLE {name}_times AS
        SELECT stay, minute, count(*) AS copies
        FROM {name}_inside SEMI JOIN (
            -- Blocks that have more rows than different minutes.
            SELECT stay, minute // {_BLOCK_MINUTES} AS block FROM {name}_inside GROUP BY ALL
            HAVING count(*) > bit_count(bit_or(1::UBIGINT << (minute % {_BLOCK_MINUTES})))
        ) blocks ON {name}_inside.stay = blocks.stay AND minute // {_BLOCK_MINUTES} = block
        GROUP BY ALL HAVING copies > 1"""
    )
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE {name}_repeated AS "
        f"SELECT DISTINCT * FROM {name}_inside SEMI JOIN {name}_times USING (stay, minute)"
    )
    ((copies,),) = connection.execute(
        f"SELECT (SELECT coalesce(sum(copies), 0) FROM {name}_times)::BIGINT "
        f"- (SELECT count(*) FROM {name}_repeated)"
    ).fetchall()
    return int(copies)


def _possible(table: MonitorTable) -> dict[str, str]:
    """Return an SQL expression for each column: its value if possible, else NULL."""
    expressions = {}
    for column, vital_name in table.vitals.items():
        vital = VITALS[VITAL_NAMES.index(vital_name)]
        below = "<=" if vital.high_included else "<"
        expressions[column] = (
            f"CASE WHEN {column} > {vital.low} AND {column} {below} {vital.high} THEN {column} END"
        )
    return expressions


def _clean(table: MonitorTable, rows: str) -> str:
    """Return the query of rows with NULL for each value that is dropped."""
    possible = ", ".join(f"{value} AS {column}" for column, value in _possible(table).items())
    consistent = ", ".join(
        f"CASE WHEN {_inconsistent(table)} THEN NULL ELSE {column} END AS {column}"
        if vital in ("sbp", "dbp", "mbp")
        else column
        for column, vital in table.vitals.items()
    )
    return f"SELECT stay, minute, {consistent} FROM (SELECT stay, minute, {possible} FROM ({rows}))"


def _inconsistent(table: MonitorTable) -> str:
    return f"coalesce({table.mean} > {table.systolic}, false)"


def _count_values(
    connection: duckdb.DuckDBPyConnection, table: MonitorTable, rows: str
) -> dict[str, int]:
    possible = _possible(table)
    counts = [f"count({column}) - count({value})" for column, value in possible.items()]
    above = f"count(*) FILTER ({possible[table.mean]} > {possible[table.systolic]})"
    (numbers,) = connection.execute(
        f"SELECT {', '.join([*counts, above])} FROM ({rows})"
    ).fetchall()
    reasons = [impossible(vital) for vital in table.vitals.values()] + [MEAN_ABOVE_SYSTOLIC]
    return dict(zip(reasons, numbers, strict=True))


def impossible(vital_name: str) -> str:
    """Return the reason to drop a value outside the valid range of a vital sign."""
    return f"impossible {VITALS[VITAL_NAMES.index(vital_name)].label.lower()}"


def _scaled(column: str) -> str:
    # A whole number as a DOUBLE: sums of a step's are exact, and faster than those of integers.
    return f"round({column}::DOUBLE * {MILLIONTHS})"


def _sum_wide(
    connection: duckdb.DuckDBPyConnection, table: MonitorTable, rows: str, step_minutes: int
) -> None:
    sums = ", ".join(
        f"CAST(sum({_scaled(column)}) AS BIGINT) AS {column}_total, "
        f"count({column}) AS {column}_times"
        for column in table.vitals
    )
    connection.execute(
        f"CREATE OR REPLACE TABLE {table.name.lower()}_sums AS "
        f"SELECT stay, minute // {step_minutes} AS step, {sums} FROM ({_clean(table, rows)}) "
        "GROUP BY ALL"
    )


def _unpivot(table: MonitorTable) -> str:
    return _union(
        f"SELECT stay, step, {VITAL_NAMES.index(vital)} AS vital, {table.rank} AS rank, "
        f"{column}_total AS total, {column}_times AS times "
        f"FROM {table.name.lower()}_sums WHERE {column}_times > 0"
        for column, vital in table.vitals.items()
    )


def _measurements(table: MonitorTable, rows: str) -> str:
    clean = _clean(table, rows)
    return _union(
        f"SELECT stay, minute::BIGINT * {MINUTE_US} AS since_us, "
        f"{VITAL_NAMES.index(vital)} AS vital, {table.rank} AS rank, "
        f"CAST({_scaled(column)} AS BIGINT) AS scaled FROM ({clean}) "
        f"WHERE {column} IS NOT NULL"
        for column, vital in table.vitals.items()
    )


def _union(queries: Iterable[str]) -> str:
    return " UNION ALL ".join(queries)
