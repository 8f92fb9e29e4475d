"""Stays that have the series of another stay under another id.

Stretches of some steps are hashed and compared, so a copy is found if it begins earlier or later,
or is a part of the other. Values must be equal to the bit: a copy whose steps begin at another
minute has other means, and is not found.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pandas as pd

from client.data_quality.finding import QualityFinding
from client.data_quality.stay_checks.stay_rows import Flags, StayRows
from common.data.vitals import VITAL_NAMES

STRETCH = 12
"""Steps that are compared at once."""

LEAST_CHANGES = 16
"""Least changes of values in a stretch: constant series are alike by chance."""

COPIED_SHARE = 0.5
"""Least share of a stay's stretches that another stay has too."""

_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)


def stays_with_copies(rows: StayRows) -> Iterator[QualityFinding]:
    """Find stays whose series is also that of another stay."""
    begins = _telling_stretches(rows) if len(rows.stay) >= STRETCH else np.zeros(0, np.int64)
    if not len(begins):
        return
    hashes = _stretch_hashes(rows)[begins]
    order = np.argsort(hashes, kind="stable")
    hashes, begins = hashes[order], begins[order]
    stay = rows.stay[begins]
    is_first = np.r_[True, hashes[1:] != hashes[:-1]]
    group = np.cumsum(is_first) - 1
    firsts = np.flatnonzero(is_first)
    lasts = np.r_[firsts[1:], len(group)] - 1
    # The sort is stable: rows of one hash ascend, and their first and last stay differ if any do.
    is_shared = (stay[firsts] != stay[lasts])[group]
    shared, every = rows.count(begins[is_shared]), rows.count(begins)
    stays = (shared > 0) & (shared >= COPIED_SHARE * every)
    if not stays.any():
        return
    pairs = np.flatnonzero(is_shared & stays[stay])
    example = group[pairs[np.argmin(begins[pairs])]]
    one, other = int(begins[firsts[example]]), int(begins[lasts[example]])
    yield _finding(rows, stays, one, other)


def _finding(rows: StayRows, stays: Flags, one: int, other: int) -> QualityFinding:
    ids = rows.frame["stay_id"]
    patients = rows.frame["patient_id"]
    values = np.zeros(len(rows.first), np.int64)
    for name in VITAL_NAMES:
        values += rows.count(~np.isnan(rows.values(name)))
    of_others = "another patient" if patients.iloc[one] != patients.iloc[other] else "the patient"
    splits = set(rows.frame["split"].iloc[rows.first[stays]])
    leak = "; copies may be in training and test at once" if len(splits) > 1 else ""
    return rows.finding(
        "stay-copied",
        f"the series is also that of another stay (here of {of_others}, row {other + 1:,}, stay "
        f"{ids.iloc[other]}{leak})",
        "keep one of each pair: list the stays to keep in keep-stays of [cohort], or name the "
        "column of the person's id in [columns] patient if one person has two ids",
        stays=stays,
        values=values,
        row=one,
    )


def _stretch_hashes(rows: StayRows) -> npt.NDArray[np.uint64]:
    """Return a hash of the values of the stretch that begins at each row, (rows - STRETCH + 1,)."""
    of_row = pd.util.hash_pandas_object(rows.frame[list(VITAL_NAMES)], index=False).to_numpy()
    count = len(of_row) - STRETCH + 1
    found = np.zeros(count, np.uint64)
    for offset in range(STRETCH):
        found *= _MULTIPLIER
        found += of_row[offset : offset + count]
    return found


def _telling_stretches(rows: StayRows) -> npt.NDArray[np.int64]:
    """Return the rows at which a stretch within one stay begins that has enough changes."""
    changes = np.zeros(len(rows.stay), np.int32)
    for name in VITAL_NAMES:
        values = rows.values(name)
        before = pd.Series(values).ffill().shift().to_numpy()
        changes += ~np.isnan(values) & (values != before)
    total = np.r_[0, np.cumsum(changes, dtype=np.int64)]
    enough = total[STRETCH:] - total[:-STRETCH] >= LEAST_CHANGES
    return np.flatnonzero(enough & (rows.stay[STRETCH - 1 :] == rows.stay[: 1 - STRETCH]))
