"""Sums of a batch of the monitor's rows per stay and time step, in the threads that parse the file.

Each row is taken as a moment of its own. `monitor` corrects that for the few moments with several.
"""

from __future__ import annotations

import threading
from collections import Counter

import numpy as np
import pyarrow as pa

from simulation.cohorts.arrays import Ints
from simulation.cohorts.eicu.monitor_values import MonitorTable, clean_values
from simulation.cohorts.eicu.repeated_moments import RepeatedMoments
from simulation.cohorts.eicu.stay_rows import StayTimes


class MonitorSums:
    """Function from a batch of rows to its sums, which counts what it drops on the way.

    Args:
        table: the table.
        times: the chosen stays.
        moments: is given all rows inside their stay.
        step_minutes: length of a step.

    Attributes:
        schema: of the sums: `stay`, `step`, and for each column of vital signs `COLUMN_sum`, of its
            values in millionths, and `COLUMN_count`, of their number.
        dropped: rows and values dropped so far, by reason.
    """

    def __init__(
        self, table: MonitorTable, times: StayTimes, moments: RepeatedMoments, step_minutes: int
    ) -> None:
        self._table = table
        self._times = times
        self._moments = moments
        self._step_minutes = step_minutes
        self._lock = threading.Lock()
        self.dropped: Counter[str] = Counter()
        sums = [(f"{column}_{kind}", pa.int64()) for column, kind in self._aggregations()]
        self.schema = pa.schema([("stay", pa.int32()), ("step", pa.int32()), *sums])

    def __call__(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Return the sums of a batch; may be called from several threads."""
        rows, place, dropped = self._inside(batch)
        self._moments.add(rows, place)
        values = clean_values(self._table, rows)
        dropped |= {reason: int(lost.sum()) for reason, lost in values.dropped.items()}
        with self._lock:
            self.dropped.update(dropped)
        step = rows["observationoffset"].to_numpy() // self._step_minutes
        keyed = pa.table({"stay": rows["patientunitstayid"], "step": step, **values.scaled})
        sums = keyed.group_by(["stay", "step"], use_threads=False).aggregate(self._aggregations())
        columns = [sums[name].combine_chunks() for name in self.schema.names]
        return pa.RecordBatch.from_arrays(columns, schema=self.schema)

    def _aggregations(self) -> list[tuple[str, str]]:
        return [(column, kind) for column in self._table.vitals for kind in ("sum", "count")]

    def _inside(self, batch: pa.RecordBatch) -> tuple[pa.RecordBatch, Ints, dict[str, int]]:
        """Return the rows inside a chosen stay that have a value, their stays, and what is not."""
        place = self._times.places(batch)
        values = [batch[name] for name in self._table.vitals]
        chosen = place >= 0
        if all(column.null_count for column in values):
            valid = [column.is_valid().to_numpy(zero_copy_only=False) for column in values]
            chosen &= np.logical_or.reduce(valid)
        outside = self._times.outside(batch["observationoffset"], place)
        dropped = {reason: int((chosen & rows).sum()) for reason, rows in outside.items()}
        inside = chosen & ~np.logical_or.reduce(list(outside.values()))
        if inside.all():
            return batch, place, dropped
        return batch.filter(pa.array(inside)), place[inside], dropped
