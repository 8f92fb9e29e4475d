"""Stays in which a vital sign has the same value for many hours.

A paced heart and a ventilated breath keep their rate for a day and more: of these a longer run
counts, or a whole stay, if more stays have one than patients explain. Pressures and temperature
never keep a value that long, and SpO2 only at 100 %.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

import numpy as np

from client.data_quality.finding import QualityFinding
from client.data_quality.stay_checks.stay_rows import LEAVE_OUT, StayRows
from common.data.vitals import VITALS

LEAST_VALUES = 8
"""Least equal values, where steps are long."""


@dataclass(frozen=True)
class FrozenLimit:
    """From when on a run of equal values counts.

    Attributes:
        hours: observed hours of equal values.
        hours_if_all: the same, if the stay has no other value.
        usual_share: share of stays that have such runs in clean data, at most.
        least_stays: least stays with such a run.
    """

    hours: float
    hours_if_all: float
    usual_share: float = 0.0
    least_stays: int = 1


LIMITS: dict[str, FrozenLimit] = {
    "heart_rate": FrozenLimit(48, 24, 0.005, 2),
    "sbp": FrozenLimit(12, 12),
    "dbp": FrozenLimit(12, 12),
    "mbp": FrozenLimit(12, 12),
    "resp_rate": FrozenLimit(48, 24, 0.005, 2),
    "temperature_c": FrozenLimit(24, 24),
    "spo2": FrozenLimit(36, 24),
}
CEILING = {"spo2": 100.0}
"""Values at which a vital sign stays."""


def stays_with_frozen_values(rows: StayRows, told: Collection[str]) -> Iterator[QualityFinding]:
    """Find stays with a run of equal values longer than the vital sign's limit.

    Args:
        rows: the table.
        told: vital signs that are constant in the whole table.
    """
    steps = rows.frame["step"].to_numpy()
    for vital in VITALS:
        values = rows.values(vital.name)
        observed = np.flatnonzero(~np.isnan(values))
        if vital.name in told or not len(observed):
            continue
        limit = LIMITS[vital.name]
        stay, series = rows.stay[observed], values[observed]
        is_new = np.r_[True, (series[1:] != series[:-1]) | (stay[1:] != stay[:-1])]
        begins = np.flatnonzero(is_new)
        lengths = np.diff(np.r_[begins, len(series)])
        is_all = lengths == np.bincount(stay, minlength=len(rows.first))[stay[begins]]
        hours = np.where(is_all, limit.hours_if_all, limit.hours)
        least = np.maximum(hours * 60 / rows.step_minutes, LEAST_VALUES)
        long = (lengths >= least) & (series[begins] != CEILING.get(vital.name, np.nan))
        # A frozen series varies elsewhere, in the stay or in others; `constant` is the other case.
        frozen = np.bincount(stay[begins[long]], lengths[long], minlength=len(rows.first))
        stays = frozen > 0
        if stays.sum() < limit.least_stays or stays.mean() <= limit.usual_share:
            continue
        begin = begins[long][0]
        row = int(observed[begin])
        last = int(observed[begin + lengths[long][0] - 1])
        span = (steps[last] - steps[row] + 1) * rows.step_minutes / 60
        yield rows.finding(
            "stay-frozen",
            f"{vital.label} keeps one value ({series[begin]:g} {vital.unit} for {span:g} h)",
            "a device that repeats its last value, or an export that fills gaps: export measured "
            f"values only; {LEAVE_OUT}",
            stays=stays,
            values=frozen.astype(np.int64),
            row=row,
        )
