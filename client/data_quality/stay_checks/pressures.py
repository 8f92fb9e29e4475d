"""Stays whose three blood pressures are in the wrong columns."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from client.data_quality.finding import QualityFinding
from client.data_quality.stay_checks.stay_rows import LEAVE_OUT, Counts, Flags, StayRows

LEAST_SWAPPED, SWAPPED_SHARE = 4, 0.5
"""Least steps of a stay with a diastolic pressure above the systolic one, and their share."""

LEAST_OUTSIDE, OUTSIDE_SHARE = 6, 0.8
"""The same of a mean pressure outside both. Cuff and line together put some steps outside."""

MOST_STAYS = 0.9
"""Share of the stays from which on the table as a whole is wrong, which `checks` reports."""


def stays_with_disordered_pressures(rows: StayRows) -> Iterator[QualityFinding]:
    """Find stays in which diastolic is above systolic, or the mean is outside both."""
    sbp, dbp, mbp = (rows.values(name) for name in ("sbp", "dbp", "mbp"))
    both = ~np.isnan(sbp) & ~np.isnan(dbp)
    swapped = dbp > sbp
    counts = rows.count(swapped)
    stays = (counts >= LEAST_SWAPPED) & (counts >= SWAPPED_SHARE * rows.count(both))
    if _is_part(stays):
        yield rows.finding(
            "stay-pressures-swapped",
            "the diastolic pressure is above the systolic one",
            "if these stays have codes or columns of their own, exchange them in [vitals.sbp] and "
            f"[vitals.dbp]; {LEAVE_OUT}",
            stays=stays,
            values=counts,
            row=rows.first_of(stays, swapped),
        )
    is_told = stays
    outside = ((mbp < dbp) | (mbp > sbp)) & both
    counts, all_three = rows.count(outside), rows.count(both & ~np.isnan(mbp))
    stays = _outside(counts, all_three) & ~is_told
    if _is_part(stays):
        yield rows.finding(
            "stay-mean-pressure-outside",
            "the mean pressure is not between diastolic and systolic",
            "check the codes or the column of [vitals.mbp], and its unit, for these stays; "
            f"{LEAVE_OUT}",
            stays=stays,
            values=counts,
            row=rows.first_of(stays, outside),
        )


def _outside(counts: Counts, all_three: Counts) -> Flags:
    return (counts >= LEAST_OUTSIDE) & (counts >= OUTSIDE_SHARE * all_three)


def _is_part(stays: Flags) -> bool:
    return bool(0 < stays.sum() < MOST_STAYS * len(stays))
