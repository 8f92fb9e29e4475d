"""Counts of a site table's patients by the fixed bins of `common.data.statistics.edges`.

All patients of the table are counted, of every split. These counts are exact, so they stay at the
site: `suppression` and `noise` make of them what may leave.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from common.data.site_table import SiteTable
from common.data.statistics.edges import AGE_NAMES, BINS, EDGES, HOURS, SEX_NAMES, STAY_EDGES_H
from common.data.vitals import VITAL_NAMES

Counts = npt.NDArray[np.int64]

CUTS = tuple(sorted([60 * h for h in range(1, HOURS)] + [60 * h - 1 for h in STAY_EDGES_H]))
"""Lengths of a stay in minutes that separate its leaves: a stay is in leaf k if it is longer than k
of these. In the unit at hour h is who stays longer than 60 h minutes; a band begins at its edge."""
LEAVES = len(CUTS) + 1


def leaf_of_hour(hour: int) -> int:
    """Return the first leaf whose patients are in the unit at an hour, 0 to 23."""
    return CUTS.index(60 * hour) + 1 if hour else 0


def leaf_of_band(hours: int) -> int:
    """Return the first leaf of the band that begins at an edge of `STAY_EDGES_H`, or at 0."""
    return CUTS.index(60 * hours - 1) + 1 if hours else 0


@dataclass(frozen=True)
class PatientCounts:
    """Exact counts of the patients of a site.

    Attributes:
        step_minutes: length of the table's steps.
        patients: all patients.
        stays: all stays.
        readmitted: patients with more than one stay.
        vitals: (vitals, BINS) patients by the bin of the median of their values.
        lengths: (LEAVES,) patients by the length of their first stay in the table.
        observed: (vitals, HOURS, LEAVES) patients with a value in an hour of that stay, by length.
        age: (age bands,) patients; None if no age is recorded.
        sex: (sexes,) patients; None if no sex is recorded.
    """

    step_minutes: int
    patients: int
    stays: int
    readmitted: int
    vitals: Counts
    lengths: Counts
    observed: Counts
    age: Counts | None = None
    sex: Counts | None = None


def count_patients(table: SiteTable, described: pd.DataFrame | None = None) -> PatientCounts:
    """Count the patients of a site table.

    A patient's first stay is the first in the table, which has no dates. A step is in every hour
    that it overlaps.

    Args:
        table: a valid site table.
        described: age band and sex of patients (`common.data.demographics.PATIENT_COLUMNS`); None
            where they are not recorded, as at a hospital.
    """
    frame, minutes = table.frame, table.info.step_minutes
    starts = np.flatnonzero(frame["step"].to_numpy() == 0)
    steps = np.diff(np.append(starts, len(frame)))
    ids = frame["patient_id"].to_numpy(object)[starts]
    # Rows are sorted by patient: a stay whose patient differs from the one before is the first.
    first = np.append(True, ids[1:] != ids[:-1])
    of_stay = np.cumsum(first) - 1
    patients = int(first.sum())
    leaves = np.searchsorted(CUTS, steps[first] * minutes, side="left")
    age, sex = _described(ids[first], described)
    return PatientCounts(
        step_minutes=minutes,
        patients=patients,
        stays=len(starts),
        readmitted=int((np.bincount(of_stay, minlength=patients) > 1).sum()),
        vitals=_histograms(frame, np.repeat(of_stay, steps)),
        lengths=_bincount(leaves, LEAVES),
        observed=_observed(
            frame, np.repeat(first, steps), np.repeat(of_stay, steps), leaves, minutes
        ),
        age=age,
        sex=sex,
    )


def _bincount(values: npt.NDArray[np.integer], length: int) -> Counts:
    return np.bincount(values, minlength=length).astype(np.int64)


def _histograms(frame: pd.DataFrame, patient: npt.NDArray[np.int64]) -> Counts:
    """Return patients by bin; `patient` is the number of each row's patient."""
    counts = np.zeros((len(VITAL_NAMES), BINS), np.int64)
    for index, name in enumerate(VITAL_NAMES):
        # In double precision: the mean of two middle values must not be rounded across an edge.
        values = frame[name].to_numpy(np.float64)
        seen = ~np.isnan(values)
        if seen.any():
            medians = pd.Series(values[seen]).groupby(patient[seen]).median().to_numpy()
            counts[index] = _bincount(np.searchsorted(EDGES[name], medians, side="right"), BINS)
    return counts


def _observed(
    frame: pd.DataFrame,
    in_first: npt.NDArray[np.bool_],
    patient: npt.NDArray[np.int64],
    leaves: npt.NDArray[np.integer],
    minutes: int,
) -> Counts:
    """Return patients with a value by vital sign, hour and leaf."""
    step = frame["step"].to_numpy(np.int64)
    early = in_first & (step * minutes < 60 * HOURS)
    begin, who = step[early] * minutes, patient[early]
    first_hour, last_hour = begin // 60, (begin + minutes - 1) // 60
    counts = np.zeros((len(VITAL_NAMES), HOURS, LEAVES), np.int64)
    for index, name in enumerate(VITAL_NAMES):
        seen = ~np.isnan(frame[name].to_numpy()[early])
        hours = np.zeros((len(leaves), HOURS), bool)
        for more in range(int((last_hour - first_hour).max(initial=0)) + 1):
            hour = first_hour + more
            mine = seen & (hour <= last_hour) & (hour < HOURS)
            hours[who[mine], hour[mine]] = True
        for place in range(HOURS):
            counts[index, place] = _bincount(leaves[hours[:, place]], LEAVES)
    return counts


def _described(
    ids: npt.NDArray[np.object_], described: pd.DataFrame | None
) -> tuple[Counts | None, Counts | None]:
    """Return the patients by age band and by sex; None for what is recorded of nobody."""
    if described is None:
        return None, None
    known = described.set_index("patient_id").reindex(ids)
    age = np.array([int((known["age_band"] == name).sum()) for name in AGE_NAMES], np.int64)
    sex = np.array([int((known["sex"] == name).sum()) for name in SEX_NAMES[:-1]], np.int64)
    sexes = np.append(sex, len(ids) - sex.sum())
    return (age if age.any() else None), (sexes if sex.any() else None)
