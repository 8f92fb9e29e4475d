from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.data.vitals import VITALS
from common.data.windows import Windows
from common.errors import UsageError
from common.evaluation.baselines import Baseline, ExponentiallyWeightedMean, LastValue
from common.evaluation.evaluate import LEVELS, Forecaster, evaluate

nan = float("nan")
BASELINES = [LastValue(), ExponentiallyWeightedMean()]


def random_walks(seed: int, windows: int = 3000, drift: float = 0.0) -> Windows:
    """Random walks of two vitals with gaps; the second moves three times as much."""
    rng = np.random.default_rng(seed)
    vital = rng.integers(0, 2, windows)
    steps = rng.normal(drift, 1.0, (windows, 30)) * (1.0 + 2.0 * vital[:, None])
    walk = 100.0 + steps.cumsum(axis=1)
    walk[:, :24][rng.random((windows, 24)) < 0.3] = nan
    walk[:, 23] = np.where(np.isnan(walk[:, 23]), 100.0, walk[:, 23])
    walk[:, 24:][rng.random((windows, 6)) < 0.2] = nan
    return Windows(
        context=walk[:, :24].astype(np.float32),
        target=walk[:, 24:].astype(np.float32),
        vital=vital,
        patient=np.arange(windows) // 10,
        patient_ids=tuple(str(index) for index in range(windows // 10)),
    )


contexts = st.lists(st.integers(60, 90) | st.just(nan), min_size=1, max_size=60).filter(
    lambda values: not all(np.isnan(values))
)


@given(contexts)
def test_the_last_value_is_the_last_observed_one(values: list[float]) -> None:
    expected = next(value for value in reversed(values) if not np.isnan(value))
    assert LastValue().point(np.array([values], dtype=np.float64)).tolist() == [expected]


@given(contexts, st.floats(0.05, 1.0))
def test_the_weighted_mean_is_that_of_pandas(values: list[float], alpha: float) -> None:
    expected = pd.Series(values, dtype=float).ewm(alpha=alpha, ignore_na=False).mean().iloc[-1]
    point = ExponentiallyWeightedMean(alpha=alpha).point(np.array([values], dtype=np.float64))
    assert point.item() == pytest.approx(expected)


def test_a_very_long_gap_keeps_the_value_before_it() -> None:
    context = np.full((1, 5000), nan)
    context[0, :2] = [70.0, 80.0]
    expected = (80.0 + 0.65 * 70.0) / 1.65
    assert ExponentiallyWeightedMean().point(context).item() == pytest.approx(expected)


@pytest.mark.parametrize("baseline", BASELINES)
def test_nothing_observed_gives_nothing(baseline: Baseline) -> None:
    assert np.isnan(baseline.point(np.full((2, 4), nan))).all()


@pytest.mark.parametrize("baseline", BASELINES)
def test_without_a_fit_all_quantiles_are_the_point(baseline: Forecaster) -> None:
    context = np.array([[80, nan, 90]], np.float32)
    forecast = baseline.forecast(context, np.array([0]), 4)
    assert forecast.shape == (1, 4, len(LEVELS))
    assert forecast.dtype == np.float32
    assert len(np.unique(forecast)) == 1


@pytest.mark.parametrize("baseline", BASELINES)
def test_fitted_quantiles_cover_what_they_say(baseline: Baseline) -> None:
    test, train = random_walks(seed=2, windows=20_000), random_walks(seed=1, windows=20_000)
    result = evaluate(test, baseline.fit(train), metrics=["coverage_80", "wql"])
    for vital in ("heart_rate", "sbp"):
        assert result.metric("coverage_80", vital) == pytest.approx(0.8, abs=0.01)
    assert result.metric("wql") < evaluate(test, baseline).metric("wql")


def test_the_spread_is_that_of_the_vital_and_the_step_ahead() -> None:
    fitted = LastValue().fit(random_walks(seed=1))
    assert fitted.error_quantiles is not None
    width = fitted.error_quantiles[:, :, 8] - fitted.error_quantiles[:, :, 0]
    assert (np.diff(width[:2], axis=1) > 0).all()  # a walk spreads with every step
    np.testing.assert_allclose(width[1] / width[0], 3.0, rtol=0.15)
    assert not width[2:].any()  # vitals that were not there


def test_the_median_stays_the_point_where_errors_are_one_sided() -> None:
    windows = random_walks(seed=1, drift=3.0)
    forecast = LastValue().fit(windows).forecast(windows.context, windows.vital, 6)
    expected = LastValue().point(windows.context)
    np.testing.assert_array_equal(forecast[:, 0, 4], expected.astype(np.float32))
    assert (np.diff(forecast, axis=2) >= 0).all()
    assert (forecast[:, 5, 8] > expected + 5).all()


def test_a_step_without_targets_takes_the_errors_of_all_steps() -> None:
    windows = random_walks(seed=1)
    windows.target[:, 3] = nan
    fitted = LastValue().fit(windows)
    assert fitted.error_quantiles is not None
    heart_rate = windows.of_vital(0)
    errors = heart_rate.target - LastValue().point(heart_rate.context)[:, None]
    expected: npt.NDArray[np.float64] = np.nanquantile(errors, LEVELS)
    np.testing.assert_allclose(fitted.error_quantiles[0, 3, [0, 8]], expected[[0, 8]], rtol=1e-5)


def test_a_fit_on_no_windows_has_no_spread() -> None:
    fitted = LastValue().fit(random_walks(seed=1).take(slice(0, 0)))
    assert fitted.error_quantiles is not None
    assert fitted.error_quantiles.shape == (len(VITALS), 6, len(LEVELS))
    assert not fitted.error_quantiles.any()


def test_a_fit_leaves_the_baseline_as_it_was_and_keeps_its_alpha() -> None:
    baseline = ExponentiallyWeightedMean(alpha=0.5)
    fitted = baseline.fit(random_walks(seed=1))
    assert baseline.error_quantiles is None
    assert fitted.alpha == 0.5


def test_a_shorter_horizon_is_served_and_a_longer_one_refused() -> None:
    windows = random_walks(seed=1)
    fitted = LastValue().fit(windows)
    whole = fitted.forecast(windows.context, windows.vital, 6)
    np.testing.assert_array_equal(fitted.forecast(windows.context, windows.vital, 2), whole[:, :2])
    with pytest.raises(UsageError, match="last_value was fitted for 6 steps ahead"):
        fitted.forecast(windows.context, windows.vital, 7)


@pytest.mark.parametrize("alpha", [0.0, -1.0, 1.5, nan])
def test_an_impossible_alpha_is_refused(alpha: float) -> None:
    with pytest.raises(UsageError, match="alpha must be above 0 and at most 1"):
        ExponentiallyWeightedMean(alpha=alpha)
