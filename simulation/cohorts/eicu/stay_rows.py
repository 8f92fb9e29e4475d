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

from simulation.cohorts.arrays import Bools, Ints
from simulation.cohorts.source_tables import SourceTables

STAYS = "unit_stays"
"""DuckDB table of the chosen stays: `patientunitstayid`, and `until`, the minute of discharge."""

NO_TIME = "row without a time"
BEFORE = "row before the unit stay"
AFTER = "row after the unit stay"
DUPLICATE = "duplicate row"


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
    """Finder of the rows of chosen stays in a batch, for the threads of a stream.

    Args:
        stays: the `patientunitstayid` to find.
    """

    def __init__(self, stays: Iterable[int]) -> None:
        # With a number above all others at the end, so that a search stays within the array.
        self._wanted = np.array([*sorted(stays), np.iinfo(np.int32).max], dtype=np.int32)

    def matches(self, batch: pa.RecordBatch) -> Bools:
        """Return which rows of a batch, [N], belong to a chosen stay."""
        return self.places(batch) >= 0

    def places(self, batch: pa.RecordBatch) -> Ints:
        """Return the index of each row's stay in the sorted chosen ones, [N]; -1 = no such."""
        # By search, since `is_in` would build a hash table of 200,000 stays for each batch.
        stay = batch["patientunitstayid"].fill_null(-1).to_numpy()
        place = np.searchsorted(self._wanted[:-1], stay)
        return np.where(self._wanted[place] == stay, place, -1)


class StayTimes(StayFilter):
    """Finder that knows the times of the chosen stays as well.

    Args:
        stays: `patientunitstayid` and `until`, the minute of discharge.

    Attributes:
        until: of each stay in the order of their ids, and -1 for a row of none, [S + 1].
    """

    def __init__(self, stays: pd.DataFrame) -> None:
        super().__init__(stays["patientunitstayid"])
        until = stays.sort_values("patientunitstayid")["until"]
        self.until = np.append(until.to_numpy(np.int64), -1)

    def outside(self, minute: pa.Array, place: Ints) -> dict[str, Bools]:
        """Return which rows are outside their stay, by reason.

        Args:
            minute: offset of each row, int32 [N].
            place: of `places`, [N].

        Returns:
            By reason of `outside_the_stay`, [N]; for rows of no chosen stay without a meaning.
        """
        known = minute.is_valid().to_numpy(zero_copy_only=False)
        minutes = minute.fill_null(0).to_numpy()
        before = known & (minutes < 0)
        return {
            NO_TIME: ~known,
            BEFORE: before,
            AFTER: known & ~before & (minutes > self.until[place]),
        }
