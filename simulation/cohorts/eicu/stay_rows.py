"""Rows of large eICU tables that belong to the chosen stays, and the time in which they do.

A measurement belongs to its unit stay from the admission (offset 0) to the discharge, both of them
included. Earlier ones are of another unit or the emergency department, later ones of the next unit
or of a wrong date.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd
import pyarrow as pa

from common.data.csv_stream import Keep
from simulation.cohorts.arrays import Bools
from simulation.cohorts.source_tables import SourceTables

STAYS = "unit_stays"
"""DuckDB table of the chosen stays: `patientunitstayid`, and `until`, the minute of discharge."""

NO_TIME = "row without a time"
BEFORE = "row before the unit stay"
AFTER = "row after the unit stay"


def register_unit_stays(tables: SourceTables, stays: pd.DataFrame) -> None:
    """Create the table `STAYS`.

    Args:
        tables: the eICU tables.
        stays: `patientunitstayid` and `until`.
    """
    columns = stays[["patientunitstayid", "until"]].astype("int32")
    tables.connection.register("stays_frame", columns)
    tables.connection.execute(f"CREATE OR REPLACE TABLE {STAYS} AS SELECT * FROM stays_frame")
    tables.connection.unregister("stays_frame")


def outside_the_stay(minute: str) -> str:
    """Return an SQL expression: the reason to drop a row joined with `STAYS`, else NULL."""
    return (
        f"CASE WHEN {minute} IS NULL THEN '{NO_TIME}' WHEN {minute} < 0 THEN '{BEFORE}' "
        f"WHEN {minute} > until THEN '{AFTER}' END"
    )


class StayFilter:
    """Filter of a batch's rows by the chosen stays, for the threads of a stream.

    Args:
        stays: the `patientunitstayid` to keep.
    """

    def __init__(self, stays: Iterable[int]) -> None:
        # With a number above all others at the end, so that a search stays within the array.
        self._wanted = np.array([*sorted(stays), np.iinfo(np.int32).max], dtype=np.int32)

    def matches(self, batch: pa.RecordBatch) -> Bools:
        """Return which rows of a batch, [N], belong to a chosen stay."""
        # By search, since `is_in` would build a hash table of 200,000 stays for each batch.
        stay = batch["patientunitstayid"].fill_null(-1).to_numpy()
        found = self._wanted[np.searchsorted(self._wanted, stay)]
        return np.asarray(found == stay, dtype=bool)

    def and_any_value(self, columns: Iterable[str]) -> Keep:
        """Return a filter: rows of a chosen stay with a value in one of the columns."""
        names = list(columns)

        def keep(batch: pa.RecordBatch) -> pa.RecordBatch:
            found = self.matches(batch)
            values = [batch[name] for name in names]
            if all(column.null_count for column in values):
                valid = [column.is_valid().to_numpy(zero_copy_only=False) for column in values]
                found &= np.logical_or.reduce(valid)
            return batch if found.all() else batch.filter(pa.array(found))

        return keep
