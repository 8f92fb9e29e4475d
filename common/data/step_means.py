"""Mean of each vital sign per stay and time step, in DuckDB, for every source of measurements.

The mean has two stages, as in MIT-LCP/mimic-code's `pivoted_vital`: first over the values charted
at one time (an arterial line beside a cuff), then over the chart times of the step. A time at which
two devices were read thus counts as much as one at which one was.

Values are whole millionths of their unit: sums of integers depend neither on the order of the rows
nor on the number of threads, as sums of floating-point numbers do.
"""

from __future__ import annotations

import duckdb
import numpy as np
import pandas as pd

from common.data.vitals import VITAL_NAMES

MILLIONTHS = 1_000_000
"""Integers per unit of a vital sign."""

MINUTE_US = 60_000_000


def step_means(
    connection: duckdb.DuckDBPyConnection, measurements: str, step_minutes: int
) -> pd.DataFrame:
    """Average measurements per stay and time step.

    Args:
        connection: where `measurements` is run.
        measurements: see `step_sums`.
        step_minutes: length of a step; step = floor(time since the stay's start / step length).

    Returns:
        See `means_of_sums`.
    """
    return means_of_sums(connection, step_sums(measurements, step_minutes))


def step_sums(measurements: str, step_minutes: int) -> str:
    """Return the query of the sums of measurements per stay, time step, vital sign and rank.

    Args:
        measurements: a query with a row a measurement: `stay` (any type that sorts), `since_us`
            (microseconds since the stay's start, not negative), `vital` (index into `VITALS`),
            `rank` (of the source; a step holds the mean of the lowest rank that has a value in
            it) and `scaled` (value times `MILLIONTHS`, an integer).
        step_minutes: length of a step.

    Returns:
        A query with a row a stay, step, vital and rank: these, `total` (sum of the scaled means of
        the times) and `times` (their number).
    """
    return f"""
        SELECT stay, CAST(since_us // {step_minutes * MINUTE_US} AS INTEGER) AS step, vital, rank,
            CAST(sum(scaled) AS BIGINT) AS total, count(*) AS times
        FROM (
            SELECT stay, since_us, vital, rank,
                CAST(round(sum(scaled) / count(*)) AS BIGINT) AS scaled
            FROM ({measurements}) GROUP BY ALL
        ) GROUP BY ALL"""


def means_of_sums(connection: duckdb.DuckDBPyConnection, sums: str) -> pd.DataFrame:
    """Return the means of vital signs from their sums.

    Args:
        connection: where `sums` is run.
        sums: a query as of `step_sums`. A stay, step, vital and rank may have several rows.

    Returns:
        A row a stay and step with any measurement, sorted: `stay`, `step` (int32) and the vitals
        (float32, NaN where not measured).
    """
    columns = ", ".join(
        f"CAST(max(mean) FILTER (vital = {index}) AS FLOAT) AS {name}"
        for index, name in enumerate(VITAL_NAMES)
    )
    frame = connection.execute(
        f"""
        WITH by_rank AS (
            SELECT stay, step, vital, rank, sum(total) / sum(times) / {MILLIONTHS} AS mean
            FROM ({sums}) GROUP BY ALL
        ), by_vital AS (
            SELECT stay, step, vital, arg_min(mean, rank) AS mean FROM by_rank GROUP BY ALL
        )
        SELECT stay, step, {columns} FROM by_vital GROUP BY ALL ORDER BY stay, step"""
    ).df()
    return frame.astype(dict.fromkeys(VITAL_NAMES, np.float32))
