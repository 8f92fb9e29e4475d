from __future__ import annotations

import json

import numpy as np
import numpy.typing as npt
import pytest

import common.evaluation.bootstrap
from common.errors import UsageError
from common.evaluation.bootstrap import (
    LEAST_PATIENTS,
    Interval,
    Intervals,
    bootstrap_intervals,
    resampled_sums,
)

Array = npt.NDArray[np.float64]


def mean(totals: Array) -> Array:
    """The mean from totals [B, (sum, count)]."""
    return totals[:, 0] / totals[:, 1]


def with_counts(values: Array) -> Array:
    return np.stack([values, np.ones_like(values)], axis=1)


def test_each_replicate_draws_as_many_patients_as_there_are() -> None:
    counts = resampled_sums(np.eye(30), replicates=500, seed=1)
    assert counts.shape == (500, 30)
    assert (counts.sum(axis=1) == 30).all()
    np.testing.assert_allclose(counts.mean(axis=0), 1.0, atol=0.2)
    # With replacement: a patient is absent from (1 - 1/30)^30 of the replicates.
    assert (counts == 0).mean() == pytest.approx((1 - 1 / 30) ** 30, abs=0.02)


def test_the_interval_of_a_mean_is_the_textbook_one() -> None:
    values = np.random.default_rng(3).normal(5.0, 2.0, 400)
    interval = bootstrap_intervals(with_counts(values), mean, replicates=4000, seed=5).at()
    half = 1.96 * values.std() / np.sqrt(len(values))
    assert interval.estimate == pytest.approx(values.mean())
    assert interval.low == pytest.approx(values.mean() - half, abs=0.02)
    assert interval.high == pytest.approx(values.mean() + half, abs=0.02)


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    rng = np.random.default_rng(0)
    hits = 0
    for trial in range(200):
        sums = with_counts(rng.gamma(4.0, 1.0, 80))
        interval = bootstrap_intervals(sums, mean, replicates=400, seed=trial).at()
        hits += interval.low <= 4.0 <= interval.high
    assert 0.89 <= hits / 200 <= 0.99


def test_pairing_removes_what_is_common_to_both_models() -> None:
    rng = np.random.default_rng(2)
    hardness = rng.gamma(1.0, 10.0, 200)
    gain = rng.normal(0.1, 0.05, 200)
    sums = np.stack([hardness - gain, hardness, np.ones(200)], axis=1)
    difference = bootstrap_intervals(
        sums, lambda totals: (totals[:, 0] - totals[:, 1]) / totals[:, 2]
    ).at()
    assert difference.estimate == pytest.approx(-gain.mean())
    assert difference.high < -0.08
    assert difference.high - difference.low < 0.02


def test_more_windows_of_one_patient_do_not_narrow_the_interval() -> None:
    sums = with_counts(np.random.default_rng(4).normal(0.0, 1.0, 50))
    once = bootstrap_intervals(sums, mean, seed=1).at()
    often = bootstrap_intervals(100.0 * sums, mean, seed=1).at()
    assert often.low == pytest.approx(once.low)
    assert often.high == pytest.approx(once.high)


def test_the_seed_decides_and_the_block_size_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    sums = np.random.default_rng(0).normal(size=(7, 2, 3))
    whole = resampled_sums(sums, replicates=50, seed=9)
    assert not np.array_equal(whole, resampled_sums(sums, replicates=50, seed=10))
    monkeypatch.setattr(common.evaluation.bootstrap, "_COUNTS_AT_ONCE", 20)
    np.testing.assert_allclose(whole, resampled_sums(sums, replicates=50, seed=9), rtol=1e-12)


def test_undefined_replicates_are_left_out() -> None:
    # One patient has the vital, and is in some draws not at all.
    sums = np.array([[6.0, 2.0], *[[0.0, 0.0]] * (LEAST_PATIENTS - 1)])

    def ratio(totals: Array) -> Array:
        values: Array = np.full(len(totals), np.nan)
        np.divide(totals[:, 0], totals[:, 1], out=values, where=totals[:, 1] > 0)
        return values

    interval = bootstrap_intervals(sums, ratio).at()
    assert (interval.estimate, interval.low, interval.high) == (3.0, 3.0, 3.0)


@pytest.mark.parametrize("patients", [0, 1, LEAST_PATIENTS - 1])
def test_too_few_patients_have_no_interval(patients: int) -> None:
    sums = np.full((patients, 2), 2.0)
    interval = bootstrap_intervals(sums, lambda totals: totals[:, 0]).at()
    assert interval.estimate == 2.0 * patients
    assert np.isnan([interval.low, interval.high]).all()


def test_few_patients_give_a_point_and_no_interval() -> None:
    both = Intervals(np.array([1.0, 2.0]), np.array([0.5, 1.5]), np.array([1.5, 2.5]))
    several = both.mask_few_patients(np.array([LEAST_PATIENTS - 1, LEAST_PATIENTS]))
    np.testing.assert_array_equal(several.estimate, both.estimate)
    np.testing.assert_array_equal(several.low, [np.nan, 1.5])
    np.testing.assert_array_equal(several.high, [np.nan, 2.5])


def test_intervals_keep_the_shape_of_the_statistic() -> None:
    sums = np.random.default_rng(0).normal(size=(20, 2, 3))
    intervals = bootstrap_intervals(sums, lambda totals: totals)
    assert intervals.low.shape == (2, 3)
    np.testing.assert_allclose(intervals.estimate, sums.sum(axis=0))
    assert (intervals.low < intervals.estimate).all()
    assert intervals.at(1, 2).high == intervals.high[1, 2]


def test_undefined_ends_are_none_in_json() -> None:
    plain = Interval(1.5, float("nan"), float("nan")).to_json()
    assert json.dumps(plain, allow_nan=False) == '{"estimate": 1.5, "low": null, "high": null}'


def test_no_replicate_is_refused() -> None:
    with pytest.raises(UsageError, match="must be at least 1, got 0"):
        resampled_sums(np.ones((2, 1)), replicates=0)


def test_few_patients_have_an_estimate_and_no_draw(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_args: object, **_options: object) -> None:
        raise AssertionError("it draws patients")

    monkeypatch.setattr(common.evaluation.bootstrap, "resampled_sums", refuse)
    values = np.arange(LEAST_PATIENTS - 1, dtype=np.float64)
    interval = bootstrap_intervals(with_counts(values), mean).at()
    assert interval.estimate == values.mean()
    assert np.isnan([interval.low, interval.high]).all()
