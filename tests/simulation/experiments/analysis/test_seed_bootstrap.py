from __future__ import annotations

import numpy as np
import pytest

from common.data.vitals import VITAL_NAMES
from common.evaluation.bootstrap import LEAST_PATIENTS
from common.evaluation.paired_difference import compare
from simulation.experiments.analysis.seed_bootstrap import Resampled, by_group, by_scope
from tests.samples.experiments import evaluation


def test_one_seed_gives_what_a_comparison_of_two_models_gives() -> None:
    a, b = (
        evaluation(errors * 3, vitals=2) for errors in ([1.0, 2.0, 4.0, 3.0], [2.0, 2.0, 3.0, 5.0])
    )
    resampled = Resampled({"a": [a], "b": [b]}, ("wql", "mae"))
    found = resampled.intervals(resampled.relative("a", "b").mean(axis=1))
    expected = compare(a, b, metrics=("wql", "mae"))
    for row, difference in (
        (0, expected.vitals[VITAL_NAMES[0]]["mae"]),
        (-1, expected.mean["mae"]),
    ):
        assert vars(found.at(row, 1)) == pytest.approx(vars(difference.relative))


def test_seeds_are_averaged_within_each_draw() -> None:
    seeds = [evaluation([1.0, 3.0]), evaluation([3.0, 5.0])]
    resampled = Resampled({"a": seeds, "b": [evaluation([2.0, 2.0])]}, ("mae",))
    rows = resampled.relative("a", "b").mean(axis=1)
    assert rows[0, 0, 0] == pytest.approx(0.5 * (2.0 / 2.0 - 1) + 0.5 * (4.0 / 2.0 - 1))
    # Drawing one patient twice, or both: three possible means.
    assert set(np.round(rows[1:, 0, 0], 6)) == {0.0, 0.5, 1.0}


def test_a_reference_of_several_seeds_stands_beside_a_model_of_one() -> None:
    resampled = Resampled(
        {"a": [evaluation([1.0, 1.0])], "b": [evaluation([2.0, 2.0]), evaluation([4.0, 4.0])]},
        ("mae",),
    )
    np.testing.assert_allclose(resampled.relative("a", "b")[0, :, 0, 0], [-0.5, -0.75])


@pytest.mark.parametrize("patients", [1, LEAST_PATIENTS - 1, LEAST_PATIENTS])
def test_few_patients_give_no_interval(patients: int) -> None:
    arms = {"a": [evaluation([1.0] * patients)], "b": [evaluation([2.0] * patients)]}
    resampled = Resampled(arms, ("mae",))
    interval = resampled.intervals(resampled.relative("a", "b").mean(axis=1)).at(0, 0)
    gain = resampled.interval(resampled.gain("a", "b", "mae"))
    assert (interval.estimate, gain.estimate) == (-0.5, 0.5)
    ends = [interval.low, interval.high, gain.low, gain.high]
    assert np.isnan(ends).all() == (patients < LEAST_PATIENTS)


def test_no_draws_give_the_same_estimates_without_intervals() -> None:
    arms = {"a": [evaluation([1.0, 3.0])], "b": [evaluation([2.0, 2.0])]}
    drawn, bare = (Resampled(arms, ("mae", "wql"), replicates) for replicates in (50, 0))
    found, expected = (one.intervals(one.relative("a", "b").mean(axis=1)) for one in (bare, drawn))
    np.testing.assert_array_equal(found.estimate, expected.estimate)
    assert np.isnan([found.low, found.high]).all()
    gains = [one.interval(one.gain("a", "b", "mae")) for one in (bare, drawn)]
    assert gains[0].estimate == gains[1].estimate
    assert np.isnan(gains[0].low)


def test_scopes_are_all_sites_together_and_each() -> None:
    per_site = {"x": evaluation([1.0]), "y": evaluation([2.0, 3.0])}
    scopes = by_scope({"a": [per_site]})
    assert list(scopes) == ["all", "x", "y"]
    assert len(scopes["all"]["a"][0].patient_ids) == 3


def test_a_group_holds_its_patients_of_all_sites() -> None:
    per_site = {"x": evaluation([1.0, 2.0]), "y": evaluation([3.0, 4.0, 5.0])}
    members = {"x": np.array([False, True]), "y": np.array([True, False, True])}
    (found,) = by_group({"a": [per_site]}, {"some": members})["some"]["a"]
    np.testing.assert_array_equal(found.numerator[:, 0, 0], [2.0, 3.0, 5.0])
    assert found.patient_ids == ("x/patient-1", "y/patient-0", "y/patient-2")
