"""Single measurements in long form: cleaned, then averaged per time step."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from common.data.site_table import VITAL_NAMES, VITALS

IMPOSSIBLE = "impossible value"
DUPLICATE = "duplicate"
NO_NUMBER = "no number"

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Measurements:
    """Measurements of vital signs, one an entry of each array [N], in any order.

    Attributes:
        record: index of the stay's record.
        vital: index of the vital in `common.data.site_table.VITALS`.
        parameter: tells apart the source's parameters of one vital, e.g. cuff and arterial line.
        minute: chart time in minutes since the record's start, not negative.
        value: in the vital's unit; NaN where the source's text is no number.
    """

    record: IntArray
    vital: IntArray
    parameter: IntArray
    minute: IntArray
    value: npt.NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.value)

    def __getitem__(self, index: npt.NDArray[np.generic]) -> Measurements:
        """Those that a mask or an index array [M] picks."""
        return Measurements(
            self.record[index],
            self.vital[index],
            self.parameter[index],
            self.minute[index],
            self.value[index],
        )


def clean(measurements: Measurements) -> tuple[Measurements, dict[str, int]]:
    """Drop what is no measurement: texts, values out of the valid range, repetitions.

    A repetition has the stay, parameter, chart time and value of another measurement.

    Args:
        measurements: as read.

    Returns:
        The valid ones, sorted by record, vital, minute, parameter and value, so that sums over
        them do not depend on the order of the source; and the number dropped by reason, with the
        reasons that occur.
    """
    is_number = ~np.isnan(measurements.value)
    possible = np.zeros(len(measurements), dtype=bool)
    for index, vital in enumerate(VITALS):
        of_vital = measurements.vital == index
        # The site table holds float32: a value just below a limit must not be rounded onto it.
        with np.errstate(over="ignore"):
            values = measurements.value[of_vital].astype(np.float32)
        possible[of_vital] = vital.valid(values)
    dropped = {
        NO_NUMBER: int((~is_number).sum()),
        IMPOSSIBLE: int((is_number & ~possible).sum()),
    }
    kept = measurements[possible]
    order = np.lexsort((kept.value, kept.parameter, kept.minute, kept.vital, kept.record))
    kept = kept[order]
    new = _changes(kept.record, kept.vital, kept.minute, kept.parameter, kept.value)
    dropped[DUPLICATE] = int((~new).sum())
    return kept[new], {reason: count for reason, count in sorted(dropped.items()) if count}


def step_means(measurements: Measurements, step_minutes: int) -> pd.DataFrame:
    """Average per time step: first over what was charted at one time, then over the chart times.

    The two stages keep a minute that was charted by both cuff and arterial line from weighing
    twice, as for MIMIC-III.

    Args:
        measurements: from `clean`.
        step_minutes: length of a time step.

    Returns:
        `record`, `step` and the vitals as float32 with NaN where not measured; one row a record
        and step with any vital, sorted.
    """
    record, vital, minute = measurements.record, measurements.vital, measurements.minute
    starts = np.flatnonzero(_changes(record, vital, minute))
    charted = _group_means(measurements.value, starts)
    record, vital, step = record[starts], vital[starts], minute[starts] // step_minutes
    starts = np.flatnonzero(_changes(record, vital, step))
    means = _group_means(charted, starts)
    record, vital, step = record[starts], vital[starts], step[starts]

    # Record and step as one number, since np.unique over rows is many times slower.
    steps = int(step.max(initial=0)) + 1
    rows, row = np.unique(record * steps + step, return_inverse=True)
    wide = np.full((len(rows), len(VITALS)), np.nan, dtype=np.float32)  # [rows, vitals]
    wide[row, vital] = means
    frame = pd.DataFrame(wide, columns=list(VITAL_NAMES))
    frame.insert(0, "record", rows // steps)
    frame.insert(1, "step", rows % steps)
    return frame


def _changes(*keys: npt.NDArray[np.generic]) -> npt.NDArray[np.bool_]:
    """Tell where any of the sorted keys [N] differs from the entry before; the first does."""
    new = np.zeros(len(keys[0]), dtype=bool)
    new[:1] = True
    for key in keys:
        new[1:] |= key[1:] != key[:-1]
    return new


def _group_means(
    values: npt.NDArray[np.float64], starts: npt.NDArray[np.intp]
) -> npt.NDArray[np.float64]:
    if not len(values):
        return values
    counts = np.diff(np.append(starts, len(values)))
    return np.asarray(np.add.reduceat(values, starts) / counts)
