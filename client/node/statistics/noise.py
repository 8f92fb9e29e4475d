"""Statistics with Gaussian noise per patient: what a site with a privacy guarantee may send.

Neighbouring tables differ by one patient with all stays. Such a patient changes, each by 1, at most

- `vitals`: one bin of each of the 7 vital signs, that of the median: L2 sensitivity sqrt(7);
- `missing`: the patients and, for 7 vital signs, the observed ones of 24 hours of the first stay:
  sqrt(24 + 7 * 24). The row of patients is drawn once, and is the same for all vital signs;
- `stay_hours`, `age`, `sex`: one count each: 1.

A group with sensitivity S and deviation sd costs as much as a Gaussian mechanism with noise
multiplier sd / S. Released together they are one mechanism with multiplier z where 1 / z^2 is the
sum of (S / sd)^2. z is solved for epsilon and delta by the accountant of training, and each group
gets the fixed share w of it: sd = z S / sqrt(w). So one step with sample rate 1 and multiplier z
is the whole cost, and is composed with the steps of training.

The normal numbers are float64 from the operating system's generator (`Randomness.of_system`). Each
is rounded to a whole number before it is added to a count: the sum is the rounded Gaussian
mechanism, a post-processing of the exact one, and its noise does not depend on the count, so that
no rounding of floats reveals it (Mironov, CCS 2012). The generator's largest number is 8.6
deviations, which cuts a tail of 1e-17, far below delta.

Nothing is suppressed: counts below 0 and small ones are shown as they are. The number of stays is
not sent, since a patient may have any number. The number of patients is the sum of the noisy bands
of stays, and that of a vital sign the sum of its noisy bins: post-processing, which costs nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from client.node.statistics.counts import Counts, PatientCounts, leaf_of_band, leaf_of_hour
from client.privacy.accountant import Steps, solve_noise_multiplier
from client.training.random_source import Randomness
from common.data.statistics.edges import HOURS, SEX_NAMES, STAY_EDGES_H
from common.data.statistics.reply import NOT_RECORDED
from common.data.vitals import VITAL_NAMES

SENSITIVITY: Mapping[str, float] = {
    "vitals": math.sqrt(len(VITAL_NAMES)),
    "missing": math.sqrt(HOURS + len(VITAL_NAMES) * HOURS),
    "stay_hours": 1.0,
    "age": 1.0,
    "sex": 1.0,
}
"""L2 norm of the largest change of a group's counts by one patient."""
SHARES: Mapping[str, float] = {
    "vitals": 0.35,
    "missing": 0.5,
    "stay_hours": 0.05,
    "age": 0.05,
    "sex": 0.05,
}
"""Share of each group in the cost; of a group that is not recorded, the others get the share."""


@dataclass(frozen=True)
class NoisePlan:
    """Noise of one reply.

    Attributes:
        epsilon: of the reply, for one patient added or removed.
        delta: of the guarantee.
        multiplier: z, the noise multiplier of the whole.
    """

    epsilon: float
    delta: float
    multiplier: float

    @property
    def cost(self) -> Steps:
        """The cost of the reply: one Gaussian step with every patient."""
        return Steps(1.0, self.multiplier, 1)

    def deviations(self, counts: PatientCounts) -> dict[str, float]:
        """Return the standard deviation of each group that is recorded.

        Whether age and sex are recorded is a property of the source, and not of a patient.
        """
        absent = {name for name in ("age", "sex") if getattr(counts, name) is None}
        shares = {name: share for name, share in SHARES.items() if name not in absent}
        whole = sum(shares.values())
        return {
            name: self.multiplier * SENSITIVITY[name] / math.sqrt(share / whole)
            for name, share in shares.items()
        }


def plan_noise(epsilon: float, delta: float) -> NoisePlan:
    """Solve the noise of a reply; it takes seconds once.

    Raises:
        PrivacyError: if no noise reaches epsilon.
    """
    return NoisePlan(epsilon, delta, solve_noise_multiplier(epsilon, delta, 1.0, 1))


def noisy_statistics(
    counts: PatientCounts, plan: NoisePlan, randomness: Randomness
) -> dict[str, Any]:
    """Return the counts of `SiteStatistics` with noise, and the guarantee.

    Args:
        counts: the exact counts.
        plan: the noise.
        randomness: its source; a site uses the operating system's.
    """
    deviations = plan.deviations(counts)

    def noisy(group: str, exact: Counts) -> list[Any]:
        noise = randomness.normal(exact.size).reshape(exact.shape) * deviations[group]
        listed: list[Any] = (exact + np.rint(noise).astype(np.int64)).tolist()
        return listed

    bins = noisy("vitals", counts.vitals)
    observed, patients = _hours(counts)
    still, *seen = noisy("missing", np.concatenate([patients[None], observed]))
    bands = noisy("stay_hours", _bands(counts.lengths))
    age: Any = NOT_RECORDED if counts.age is None else noisy("age", counts.age)
    sex: Any = NOT_RECORDED
    if counts.sex is not None:
        sex = dict(zip(SEX_NAMES, noisy("sex", counts.sex), strict=True))
    return {
        "privacy": {"epsilon": plan.epsilon, "delta": plan.delta, "noise": deviations},
        "patients": sum(bands),
        "stays": None,
        "vitals": {
            name: {"patients": sum(row), "counts": row}
            for name, row in zip(VITAL_NAMES, bins, strict=True)
        },
        "missing": {
            name: {"observed": row, "patients": list(still)}
            for name, row in zip(VITAL_NAMES, seen, strict=True)
        },
        "stay_hours": bands,
        "age": age,
        "sex": sex,
    }


def _hours(counts: PatientCounts) -> tuple[Counts, Counts]:
    """Return observed patients (vitals, HOURS) and patients (HOURS,) of each hour."""
    begins = [leaf_of_hour(hour) for hour in range(HOURS)]
    patients = np.array([counts.lengths[begin:].sum() for begin in begins], np.int64)
    # Who has a value in an hour is in the unit then: all lengths count.
    observed: npt.NDArray[np.int64] = counts.observed.sum(axis=2)
    return observed, patients


def _bands(lengths: Counts) -> Counts:
    return np.add.reduceat(lengths, [leaf_of_band(hours) for hours in (0, *STAY_EDGES_H)])
