"""The noise: sensitivities by brute force, the cost of all groups, rounding."""

from __future__ import annotations

import math

import numpy as np
import pytest

from client.node.statistics.counts import PatientCounts
from client.node.statistics.noise import (
    SENSITIVITY,
    SHARES,
    noisy_statistics,
    plan_noise,
)
from client.privacy.accountant import Steps, spent
from client.training.random_source import Randomness
from common.data.statistics.reply import GROUPS
from common.data.vitals import VITAL_NAMES
from tests.client.node.statistics.test_suppression import Site


class NoNoise(Randomness):
    """A source of zeros, to see the exact counts."""

    def __init__(self) -> None:
        super().__init__(lambda count: b"\0" * count)

    def normal(self, count: int) -> np.ndarray:
        return np.zeros(count)


def released(counts: PatientCounts) -> dict[str, np.ndarray]:
    """Return the exact numbers of each group, each drawn number once."""
    sent = noisy_statistics(counts, plan_noise(1.0, 1e-5), NoNoise())
    return {
        "vitals": np.concatenate([sent["vitals"][name]["counts"] for name in VITAL_NAMES]),
        "missing": np.concatenate(
            [
                sent["missing"][VITAL_NAMES[0]]["patients"],
                *(sent["missing"][name]["observed"] for name in VITAL_NAMES),
            ]
        ),
        "stay_hours": np.array(sent["stay_hours"]),
    }


@pytest.mark.parametrize("seed", range(20))
def test_one_patient_moves_no_group_beyond_its_sensitivity(seed: int) -> None:
    whole, without = Site(seed, 30, 1.0), Site(seed, 30, 1.0)
    for one in (whole, without):
        one.leaf[0], one.bin[:, 0], one.seen[:, :, 0] = 28, 3, True  # all that a patient can change
    without.leaf, without.bin = without.leaf[1:], without.bin[:, 1:]
    without.seen, without.again = without.seen[:, :, 1:], without.again[1:]
    before, after = released(whole.counts), released(without.counts)
    for group, numbers in before.items():
        assert np.linalg.norm(numbers - after[group]) == pytest.approx(SENSITIVITY[group])


def test_all_groups_together_cost_one_step_of_the_plan() -> None:
    plan = plan_noise(1.0, 1e-5)
    recorded = Site(0, 30, 1.0).counts
    for counts in (recorded, described(recorded)):
        deviations = plan.deviations(counts)
        together = sum((SENSITIVITY[name] / sd) ** 2 for name, sd in deviations.items())
        assert 1 / math.sqrt(together) == pytest.approx(plan.multiplier)
    assert set(plan.deviations(described(recorded))) == set(GROUPS) == set(SHARES)
    assert sum(SHARES.values()) == pytest.approx(1.0)
    assert spent([Steps(1.0, plan.multiplier, 1)], 1e-5).prv <= 1.0


def described(counts: PatientCounts) -> PatientCounts:
    whole = counts.patients
    age, sex = np.array([whole, 0, 0, 0]), np.array([whole, 0, 0])
    return PatientCounts(**{**vars(counts), "age": age, "sex": sex})


def test_noise_does_not_depend_on_the_counts() -> None:
    """Two sites with the same random numbers: the differences are those of the exact counts."""
    one, other = Site(1, 50, 0.5).counts, Site(2, 80, 0.9).counts
    plan = plan_noise(0.5, 1e-5)
    noisy = [noisy_statistics(c, plan, Randomness.of_seed(7)) for c in (one, other)]
    exact = [noisy_statistics(c, plan, NoNoise()) for c in (one, other)]
    for name in VITAL_NAMES:
        drawn = [
            np.array(n["vitals"][name]["counts"]) - e["vitals"][name]["counts"]
            for n, e in zip(noisy, exact, strict=True)
        ]
        assert np.array_equal(*drawn)


def test_the_drawn_noise_has_the_stated_deviation() -> None:
    counts, plan = Site(1, 50, 0.5).counts, plan_noise(1.0, 1e-5)
    drawn = []
    exact = released(counts)["missing"]
    for seed in range(40):
        sent = noisy_statistics(counts, plan, Randomness.of_seed(seed))["missing"]
        numbers = [sent[VITAL_NAMES[0]]["patients"], *(sent[n]["observed"] for n in VITAL_NAMES)]
        drawn.append(np.concatenate(numbers) - exact)
    assert np.std(drawn) == pytest.approx(plan.deviations(counts)["missing"], rel=0.05)


def test_patients_are_sums_of_noisy_counts_and_stays_are_not_sent() -> None:
    counts = described(Site(1, 50, 0.5).counts)
    sent = noisy_statistics(counts, plan_noise(1.0, 1e-5), Randomness.of_seed(3))
    assert sent["stays"] is None
    assert sent["patients"] == sum(sent["stay_hours"])
    for one in sent["vitals"].values():
        assert one["patients"] == sum(one["counts"])
