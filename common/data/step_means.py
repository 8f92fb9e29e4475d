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
        measurements: a query with a row a measurement: `stay` (any type that sorts), `since_us`
            (microseconds since the stay's start, not negative), `vital` (index into `VITALS`),
            `rank` (of the source; a step holds the mean of the lowest rank that has a value in
            it) and `scaled` (value times `MILLIONTHS`, an integer).
        step_minutes: length of a step; step = floor(time since the stay's start / step length).

    Returns:
        A row a stay and step with any measurement, sorted: `stay`, `step` (int32) and the vitals
        (float32, NaN where not measured).
    """
    step_us = step_minutes * MINUTE_US
    columns = ", ".join(
        f"CAST(max(mean) FILTER (vital = {index}) AS FLOAT) AS {name}"
        for index, name in enumerate(VITAL_NAMES)
    )
    frame = connection.execute(
        f"""
        WITH by_time AS (
            SELECT stay, since_us, vital, rank,
                CAST(round(sum(scaled) / count(*)) AS BIGINT) AS scaled
            FROM ({measurements}) GROUP BY ALL
        ), by_rank AS (
            SELECT stay, CAST(since_us // {step_us} AS INTEGER) AS step, vital, rank,
                sum(scaled) / count(*) / {MILLIONTHS} AS mean
            FROM by_time GROUP BY ALL
        ), by_vital AS (
            SELECT stay, step, vital, arg_min(mean, rank) AS mean FROM by_rank GROUP BY ALL
        )
        SELECT stay, step, {columns} FROM by_vital GROUP BY ALL ORDER BY stay, step"""
    ).df()
    return frame.astype(dict.fromkeys(VITAL_NAMES, np.float32))
