"""Stays whose times jump: days without any value, within a stay."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from client.data_quality.finding import QualityFinding
from client.data_quality.stay_checks.stay_rows import LEAVE_OUT, StayRows
from common.data.vitals import VITAL_NAMES

LEAST_HOURS = 48.0
"""Least hours without any vital sign. The longest pause of clean data is 28 h."""


def stays_with_time_jumps(rows: StayRows) -> Iterator[QualityFinding]:
    """Find stays with a pause of `LEAST_HOURS` or more between two values."""
    observed = np.zeros(len(rows.stay), np.bool_)
    for name in VITAL_NAMES:
        observed |= ~np.isnan(rows.values(name))
    at = np.flatnonzero(observed)
    # The steps of a stay have no gap, so rows of one stay are as far apart as its steps.
    pauses = np.diff(at) * ((rows.stay[at[1:]] == rows.stay[at[:-1]]) if len(at) else 1)
    jumps = at[1:][pauses >= rows.steps_in(LEAST_HOURS)]
    if not len(jumps):
        return
    counts = rows.count(jumps)
    hours = pauses[np.searchsorted(at[1:], jumps[0])] * rows.step_minutes / 60
    yield rows.finding(
        "stay-time-jump",
        f"the time jumps ({hours:g} h without any value)",
        "check the dates in the column of [columns] time; set gap-hours in [stay] if these are two "
        f"stays; {LEAVE_OUT}",
        stays=counts > 0,
        values=counts,
        row=int(jumps[0]),
    )
