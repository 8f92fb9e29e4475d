"""Measurements in long form: cleaned, then averaged per time step."""

from __future__ import annotations

from dataclasses import dataclass

import duckdb
import numpy as np
import numpy.typing as npt
import pandas as pd

from common.data.step_means import MILLIONTHS, MINUTE_US, step_means
from common.data.vitals import VITALS
from simulation.cohorts.arrays import Floats, Ints

_IMPOSSIBLE = "impossible value"
_DUPLICATE = "duplicate"
_NO_NUMBER = "no number"


@dataclass(frozen=True)
class Measurements:
    """Measurements of vital signs, one per entry of each array [N], in any order.

    Attributes:
        record: index of the stay's record.
        vital: index of the vital in `common.data.vitals.VITALS`.
        parameter: index of the source's parameter, e.g. cuff or arterial line of one vital.
        minute: chart time in minutes since the record's start, not negative.
        value: in the vital's unit; NaN if the source's text is not a number.
    """

    record: Ints
    vital: Ints
    parameter: Ints
    minute: Ints
    value: Floats

    def __len__(self) -> int:
        return len(self.value)

    def __getitem__(self, index: npt.NDArray[np.generic]) -> Measurements:
        """Return the measurements at a mask or an index array [M]."""
        return Measurements(
            self.record[index],
            self.vital[index],
            self.parameter[index],
            self.minute[index],
            self.value[index],
        )


def clean(measurements: Measurements) -> tuple[Measurements, dict[str, int]]:
    """Drop texts, values outside the valid range, and duplicates.

    A duplicate has the stay, parameter, chart time and value of another measurement.

    Args:
        measurements: as read.

    Returns:
        The valid ones, sorted by record, vital, minute, parameter and value; and the number dropped
        by reason, for the reasons that occur.
    """
    is_number = ~np.isnan(measurements.value)
    possible = np.zeros(len(measurements), dtype=bool)
    # As the site table will hold it: a value just below a limit must not be rounded onto it.
    with np.errstate(over="ignore"):
        values = (_scaled(measurements.value) / MILLIONTHS).astype(np.float32)
    for index, vital in enumerate(VITALS):
        of_vital = measurements.vital == index
        possible[of_vital] = vital.valid(values[of_vital])
    dropped = {
        _NO_NUMBER: int((~is_number).sum()),
        _IMPOSSIBLE: int((is_number & ~possible).sum()),
    }
    kept = measurements[possible]
    order = np.lexsort((kept.value, kept.parameter, kept.minute, kept.vital, kept.record))
    kept = kept[order]
    new = _changes(kept.record, kept.vital, kept.minute, kept.parameter, kept.value)
    dropped[_DUPLICATE] = int((~new).sum())
    return kept[new], {reason: count for reason, count in sorted(dropped.items()) if count}


def means_per_step(measurements: Measurements, step_minutes: int) -> pd.DataFrame:
    """Average per time step; see `common.data.step_means`.

    Args:
        measurements: from `clean`.
        step_minutes: length of a time step.

    Returns:
        `record`, `step` and the vitals as float32 with NaN where not measured; one row per record
        and step with any vital, sorted.
    """
    rows = pd.DataFrame(
        {
            "stay": measurements.record,
            "since_us": measurements.minute * MINUTE_US,
            "vital": measurements.vital,
            "scaled": _scaled(measurements.value).astype(np.int64),
        }
    )
    with duckdb.connect() as connection:
        connection.register("measurements", rows)
        means = step_means(connection, "SELECT *, 0 AS rank FROM measurements", step_minutes)
    return means.rename(columns={"stay": "record"})


def _scaled(values: Floats) -> Floats:
    """Return values in millionths of their unit, rounded to whole ones."""
    return np.rint(values * MILLIONTHS)


def _changes(*keys: npt.NDArray[np.generic]) -> npt.NDArray[np.bool_]:
    """Return where any of the sorted keys [N] differs from the entry before; true for the first."""
    new = np.zeros(len(keys[0]), dtype=bool)
    new[:1] = True
    for key in keys:
        new[1:] |= key[1:] != key[:-1]
    return new
