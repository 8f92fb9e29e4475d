"""Thresholds of the comparison of sites; docs/explanation/statistics.md gives their reasons."""

from __future__ import annotations

import math

from common.data.splits import SPLIT_SHARES

FALSE_FLAG_RATE = 0.05
"""Most probability that a page of equal sites has any flag that rests on chance."""

KS_DISTANCE = 0.2
"""Least distance of two cumulative distributions that is reported.

Two normal distributions half a standard deviation apart have 0.197, and a population stability
index of 0.25, the usual limit of a large shift.
"""

OTHER_UNIT_SHARE = 0.01
"""Least share of a vital's patients in another unit, as in the ingest's check."""

STRAY_SHARE = 0.01
"""Share of patients in the first or the last bin that is taken as usual at least."""

STRAY_FACTOR = 2.0
"""Multiple of the other sites' typical share in these bins that is still taken as usual."""

MISSING_SHARE = 0.1
"""Share of patients with a vital up to which the vital is said to be missing."""

SPARSE_RATIO = 0.5
"""A vital is sparse where less than this part of the other sites' share has it."""

EMPTY_HOUR_SHARE = 0.05
"""Share of patients with a value up to which an hour is said to be empty."""

EMPTY_HOURS = 3
"""Least number of empty hours in a row."""

FILLED_HOUR_SHARE = 0.25
"""Least share at the other sites in an hour that is empty at a site."""

LEAST_TRAINING_PATIENTS = 20
"""Fewest training patients, the default of `limits.min-patients` in a site's policy."""

LEAST_PATIENTS = math.ceil(LEAST_TRAINING_PATIENTS / SPLIT_SHARES[0])
"""Fewest patients of which the split leaves that many for training, on average."""

FEW_PATIENTS = math.ceil(10 / SPLIT_SHARES[1])
"""Fewest patients of which about ten validate a round."""
