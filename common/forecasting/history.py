"""Histories of patients: a table of vital signs, checked and turned into contexts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from common.data.site_table import KEY_COLUMNS
from common.data.vitals import VITAL_NAMES
from common.data.windows import FloatArray, IntArray
from common.errors import UsageError
from common.names import check_name

_COLUMNS = (*KEY_COLUMNS, *VITAL_NAMES)


@dataclass(frozen=True, eq=False)
class History:
    """Last C steps of K stays.

    Attributes:
        keys: a row per stay, in the order of the table: `patient_id`, and `stay_id` if it is given.
        vitals: names of the V vital signs of the table, in the order of
            `common.data.vitals.VITALS`.
        context: ``[K, V, C]`` in the vitals' units, ending with each stay's last row; NaN = not
            measured, no row, or before the stay.
        last_step: ``[K]``, number of each stay's last step.
        reasons: ``[K]``, why a stay's rows cannot be used; empty if they can.
    """

    keys: pd.DataFrame
    vitals: tuple[str, ...]
    context: FloatArray
    last_step: IntArray
    reasons: tuple[str, ...]


def read_history(frame: pd.DataFrame, context_steps: int) -> History:
    """Turn a table of vital signs into contexts.

    Args:
        frame: a row per stay and time step, in any order: `patient_id`; `stay_id`, if patients have
            several stays; `step`, the number of the time step, from any beginning; and any vital
            signs in their units, NaN = not measured. The frame of a site table is one.
        context_steps: C, the number of steps to keep of each stay.

    Returns:
        The histories. Steps without a row count as not measured.

    Raises:
        UsageError: there is no row, a column is missing, unknown, named twice or not numeric, or an
            id or a step is absent.
    """
    vitals = _check_columns(frame)
    step = _steps(frame)
    names = [name for name in ("patient_id", "stay_id") if name in frame]
    for name in names:
        if frame[name].isna().any():
            raise UsageError(f"{name} is absent in row {int(frame[name].isna().argmax())}")
    stay = frame.groupby(names, sort=False, observed=True).ngroup().to_numpy().astype(np.int64)
    keys = frame[names].iloc[np.unique(stay, return_index=True)[1]].reset_index(drop=True)
    last = np.full(len(keys), np.iinfo(np.int64).min)
    np.maximum.at(last, stay, step)
    place = context_steps - 1 - (last[stay] - step)
    kept = place >= 0
    context = np.full((len(keys), len(vitals), context_steps), np.nan, np.float32)
    for index, name in enumerate(vitals):
        values = frame[name].to_numpy(np.float32, na_value=np.nan)
        context[stay[kept], index, place[kept]] = values[kept]
    return History(keys, vitals, context, last, _repeated_steps(stay, step, len(keys)))


def _check_columns(frame: pd.DataFrame) -> tuple[str, ...]:
    """Check the columns and return the names of the vitals."""
    if not frame.columns.is_unique:
        raise UsageError(
            f"the column {frame.columns[frame.columns.duplicated()][0]!r} occurs twice"
        )
    for name in ("patient_id", "step"):
        if name not in frame:
            raise UsageError(f"the table has no column {name}; it has {', '.join(map(str, frame))}")
    for column in frame:
        check_name("column", str(column), _COLUMNS)
    vitals = tuple(name for name in VITAL_NAMES if name in frame)
    if not vitals:
        raise UsageError(f"the table has no vital sign; known are: {', '.join(VITAL_NAMES)}")
    if frame.empty:
        raise UsageError("the table has no rows; there is no patient to forecast")
    for name in vitals:
        if not _is_numeric(frame[name]):
            example = next(iter(frame[name].dropna()), None)
            raise UsageError(
                f"{name} is {frame[name].dtype}, e.g. {example!r}; convert it to numbers, "
                "NaN = not measured"
            )
    return vitals


def _is_numeric(column: pd.Series) -> bool:
    kinds = pd.api.types
    if column.isna().all():
        return True
    return kinds.is_float_dtype(column) or kinds.is_integer_dtype(column)


def _steps(frame: pd.DataFrame) -> npt.NDArray[np.int64]:
    column = frame["step"]
    if not _is_numeric(column) or column.isna().any():
        raise UsageError(
            f"step is {column.dtype} or absent in a row; give whole numbers, e.g. the hours since "
            "admission for steps of 60 minutes"
        )
    values = column.to_numpy(np.float64)
    if not (np.isfinite(values) & (values == np.floor(values)) & (np.abs(values) < 2**53)).all():
        raise UsageError(
            "step has a value that is not whole; give the number of the time step, e.g. 0, 1, 2"
        )
    return values.astype(np.int64)


def _repeated_steps(stay: IntArray, step: IntArray, stays: int) -> tuple[str, ...]:
    repeated = pd.DataFrame({"stay": stay, "step": step}).duplicated().to_numpy()
    reasons = [""] * stays
    for row in np.flatnonzero(repeated):
        reasons[stay[row]] = f"step {step[row]} has more than one row; give the mean of the step"
    return tuple(reasons)
