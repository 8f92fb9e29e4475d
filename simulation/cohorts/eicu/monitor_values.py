"""Cleaning of the monitor's values: possible ones in millionths, and the reasons for the others.

With numpy, on a batch of rows: for that DuckDB takes several times as long.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from common.data.step_means import MILLIONTHS
from common.data.vitals import VITAL_NAMES, VITALS
from simulation.cohorts.arrays import Bools

MEAN_ABOVE_SYSTOLIC = "mean pressure above systolic"

_PRESSURES = ("sbp", "dbp", "mbp")
_NAN = pa.scalar(np.nan, pa.float32())


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

    @property
    def schema(self) -> pa.Schema:
        """Columns that are read, with their types."""
        ids = [("patientunitstayid", pa.int32()), ("observationoffset", pa.int32())]
        return pa.schema([*ids, *((column, pa.float32()) for column in self.vitals)])


@dataclass(frozen=True)
class CleanValues:
    """Cleaned values of N rows.

    Attributes:
        scaled: values of each column in whole millionths, int64 [N]; null if missing or dropped.
        dropped: by reason, which rows lose a value, [N].
    """

    scaled: dict[str, pa.Array]
    dropped: dict[str, Bools]


def clean_values(table: MonitorTable, rows: pa.RecordBatch) -> CleanValues:
    """Drop the values outside the valid range of their vital sign, and inconsistent pressures.

    A row's pressures are dropped together if the mean is above the systolic one, since either may
    be wrong.

    Args:
        table: the table of the rows.
        rows: its columns of vital signs, float32 [N].
    """
    values, valid, dropped = {}, {}, {}
    for column, vital_name in table.vitals.items():
        vital = VITALS[VITAL_NAMES.index(vital_name)]
        values[column] = rows[column].fill_null(_NAN).to_numpy()
        valid[column] = vital.valid(values[column])
        present = rows[column].is_valid().to_numpy(zero_copy_only=False)
        dropped[impossible(vital_name)] = present & ~valid[column]
    above = valid[table.mean] & valid[table.systolic]
    above &= values[table.mean] > values[table.systolic]
    dropped[MEAN_ABOVE_SYSTOLIC] = above
    for column, vital_name in table.vitals.items():
        if vital_name in _PRESSURES:
            valid[column] &= ~above
    scaled = {column: _scaled(values[column], valid[column]) for column in table.vitals}
    return CleanValues(scaled, dropped)


def value_reasons(table: MonitorTable) -> list[str]:
    """Return the reasons of `CleanValues.dropped`."""
    return [*map(impossible, table.vitals.values()), MEAN_ABOVE_SYSTOLIC]


def impossible(vital_name: str) -> str:
    """Return the reason to drop a value outside the valid range of a vital sign."""
    return f"impossible {VITALS[VITAL_NAMES.index(vital_name)].label.lower()}"


def _scaled(values: np.ndarray, valid: Bools) -> pa.Array:
    # Half a millionth is rounded up, as DuckDB does in the other sources; all values are positive.
    millionths = np.where(valid, values, 0).astype(np.float64) * MILLIONTHS
    return pa.array(np.floor(millionths + 0.5).astype(np.int64), mask=~valid)
