from __future__ import annotations

from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from utilsforecast import losses

from common.data.vitals import VITALS
from common.errors import UsageError
from common.evaluation.metrics import (
    METRICS,
    WindowTotals,
    naive_scale,
    steps_at_or_below,
    warping_distance,
    window_totals,
)

LEVELS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
Array = npt.NDArray[np.float64]
nan = float("nan")


def some_windows(seed: int = 0, windows: int = 40) -> tuple[Array, Array, Array]:
    """Targets with gaps, sorted quantiles and contexts with gaps."""
    rng = np.random.default_rng(seed)
    target = rng.normal(80, 10, (windows, 6))
    target[rng.random(target.shape) < 0.3] = nan
    target[:, 0] = 80.0 + rng.normal(size=windows)
    quantiles = np.sort(rng.normal(80, 10, (windows, 6, 9)), axis=2)
    context = rng.normal(80, 10, (windows, 20))
    context[rng.random(context.shape) < 0.4] = nan
    return target, quantiles, context


def score(target: Array, quantiles: Array, context: Array, floor: float = 1.0) -> WindowTotals:
    return window_totals(target, quantiles, LEVELS, context, floor)


def long_frame(target: Array, quantiles: Array) -> pd.DataFrame:
    """The observed points in the format of utilsforecast, one series for all windows."""
    rows, steps = np.nonzero(~np.isnan(target))
    forecast = quantiles[rows, steps]
    columns = {f"q{level:g}": forecast[:, k] for k, level in enumerate(LEVELS)}
    columns |= {
        "model": forecast[:, 4],
        "model-lo-80": forecast[:, 0],
        "model-hi-80": forecast[:, 8],
    }
    points = {"unique_id": "all", "ds": range(len(rows)), "y": target[rows, steps]}
    return pd.DataFrame({**points, **columns})


@pytest.mark.parametrize(("name", "factor"), [("mae", 1), ("mse", 1), ("rmse", 1), ("mape", 100)])
def test_point_metrics_are_those_of_utilsforecast(name: str, factor: int) -> None:
    target, quantiles, context = some_windows()
    reference = getattr(losses, name)(long_frame(target, quantiles), models=["model"])
    ours = score(target, quantiles, context).metric(name)
    assert ours == pytest.approx(factor * reference["model"].item())


def test_mape_divides_by_its_floor_where_the_value_is_smaller() -> None:
    target = np.array([[0.01, 10.0, nan]])
    quantiles = np.full((1, 3, 9), 12.0)
    context = np.ones((1, 4))

    def mape(floor: float) -> float:
        totals = window_totals(target, quantiles, LEVELS, context, 1.0, ["mape"], floor)
        return totals.metric("mape")

    assert mape(5.0) == pytest.approx(100 * (11.99 / 5 + 2 / 10) / 2)
    assert mape(1e-6) == pytest.approx(100 * (11.99 / 0.01 + 2 / 10) / 2)


def test_wql_is_the_scaled_crps_of_utilsforecast() -> None:
    target, quantiles, context = some_windows()
    reference = losses.scaled_crps(
        long_frame(target, quantiles),
        models={"model": [f"q{level:g}" for level in LEVELS]},
        quantiles=np.array(LEVELS),
    )
    ours = score(target, quantiles, context).metric("wql")
    assert ours == pytest.approx(reference["model"].item())


def test_coverage_is_that_of_utilsforecast() -> None:
    target, quantiles, context = some_windows()
    reference = losses.coverage(long_frame(target, quantiles), models=["model"], level=80)
    assert score(target, quantiles, context).metric("coverage_80") == pytest.approx(
        reference["model"].item()
    )


def test_shares_at_or_below_are_the_calibration_of_utilsforecast() -> None:
    target, quantiles, _ = some_windows()
    frame = long_frame(target, quantiles)
    names = {f"q{level:g}": f"q{level:g}" for level in LEVELS}
    reference = losses.calibration(frame, models=names)
    share = steps_at_or_below(target, quantiles).sum(axis=0) / len(frame)
    np.testing.assert_allclose(share, reference[list(names)].to_numpy()[0])


@given(st.integers(0, 2**32 - 1), st.integers(0, 5), st.integers(1, 4), st.integers(1, 9))
def test_steps_at_or_below_are_counted_as_a_loop_counts_them(
    seed: int, windows: int, horizon: int, levels: int
) -> None:
    rng = np.random.default_rng(seed)
    # Whole numbers, so that targets and quantiles are often equal.
    target = rng.integers(0, 4, (windows, horizon)).astype(np.float32)
    target[rng.random(target.shape) < 0.3] = nan
    quantiles = np.sort(rng.integers(0, 4, (windows, horizon, levels)), axis=2).astype(np.float32)
    counted = steps_at_or_below(target, quantiles)
    assert counted.shape == (windows, levels)
    for window in range(windows):
        for level in range(levels):
            count = 0
            for step in range(horizon):
                value = target[window, step]
                if not np.isnan(value) and value <= quantiles[window, step, level]:
                    count += 1
            assert counted[window, level] == count


def test_mase_is_that_of_utilsforecast_window_by_window() -> None:
    target, quantiles, context = some_windows()
    rows, steps = np.nonzero(~np.isnan(target))
    forecast = pd.DataFrame(
        {"unique_id": rows, "ds": 100 + steps, "y": target[rows, steps]}
    ).assign(model=quantiles[rows, steps, 4])
    before, at = np.nonzero(~np.isnan(context))
    train = pd.DataFrame({"unique_id": before, "ds": at, "y": context[before, at]})
    reference = losses.mase(forecast, models=["model"], seasonality=1, train_df=train)
    totals = score(target, quantiles, context, floor=1e-9)
    column = totals.metrics.index("mase")
    np.testing.assert_allclose(
        totals.numerator[:, column], reference.sort_values("unique_id")["model"]
    )
    assert totals.metric("mase") == pytest.approx(reference["model"].mean())


def test_all_metrics_by_hand() -> None:
    target = np.array([[10.0, nan, 20.0]])
    context = np.array([[nan, 4.0, nan, 6.0, 6.0]])
    # Quantiles 2 apart from the level below; the medians are 12, 99 and 17.
    quantiles = np.array([12.0, 99.0, 17.0])[None, :, None] + 2.0 * np.arange(-4, 5)
    totals = score(target, quantiles, context, floor=0.1)
    first = [a * (10 - q) if q <= 10 else (1 - a) * (q - 10)
             for a, q in zip(LEVELS, range(4, 21, 2), strict=True)]  # fmt: skip
    second = [a * (20 - q) if q <= 20 else (1 - a) * (q - 20)
              for a, q in zip(LEVELS, range(9, 26, 2), strict=True)]  # fmt: skip
    expected = {
        "mae": 2.5,
        "mse": (4 + 9) / 2,
        "rmse": np.sqrt(6.5),
        "mape": 100 * (0.2 + 0.15) / 2,
        "mase": 2.5 / 1.0,  # successive values 4, 6, 6 differ by 2 and 0
        "wql": 2 * (np.mean(first) + np.mean(second)) / 30,
        "coverage_80": 1.0,
        "dtw": 2.5,  # 10, 20 against 12, 17: nothing to gain by warping
    }
    assert set(expected) == set(METRICS)
    for name, value in expected.items():
        assert totals.metric(name) == pytest.approx(value), name


def test_warping_skips_the_gaps() -> None:
    target = np.array([[60.0, nan, 65.0, nan, 60.0, 60.0]])
    median = np.array([[60.0, 77.0, 60.0, 77.0, 65.0, 60.0]])
    quantiles = np.repeat(median[..., None], 9, axis=2)
    totals = score(target, quantiles, np.ones((1, 3)))
    assert totals.metric("dtw") == pytest.approx(0.0)
    assert totals.metric("mae") == pytest.approx(2.5)


@given(st.integers(0, 1000))
def test_dtw_is_at_most_mae(seed: int) -> None:
    totals = score(*some_windows(seed, windows=5))
    assert totals.metric("dtw") <= totals.metric("mae") + 1e-9


def test_unobserved_steps_do_not_matter() -> None:
    target, quantiles, context = some_windows()
    changed = np.where(np.isnan(target)[..., None], 1e6 + np.arange(9.0), quantiles)
    ours, theirs = score(target, quantiles, context), score(target, changed, context)
    np.testing.assert_array_equal(ours.numerator, theirs.numerator)
    np.testing.assert_array_equal(ours.denominator, theirs.denominator)


def test_windows_do_not_mix() -> None:
    target, quantiles, context = some_windows()
    together = score(target, quantiles, context)
    alone = score(target[7:8], quantiles[7:8], context[7:8])
    np.testing.assert_array_equal(together.numerator[7:8], alone.numerator)
    np.testing.assert_array_equal(together.denominator[7:8], alone.denominator)


def test_nothing_observed_counts_nothing() -> None:
    totals = score(np.full((2, 6), nan), np.zeros((2, 6, 9)), np.ones((2, 20)))
    assert not totals.denominator.any()
    assert not totals.numerator.any()
    assert all(np.isnan(totals.metric(name)) for name in METRICS)


def test_a_constant_context_does_not_explode() -> None:
    spo2 = next(vital for vital in VITALS if vital.name == "spo2")
    context = np.full((1, 20), 98.0)
    quantiles = np.full((1, 6, 9), 97.0)
    totals = score(np.full((1, 6), 98.0), quantiles, context, floor=spo2.scale_floor)
    assert totals.metric("mase") == pytest.approx(1.0 / spo2.scale_floor)


@given(st.lists(st.integers(60, 90) | st.just(nan), min_size=1, max_size=10))
def test_the_naive_scale_looks_at_successive_observed_values(values: list[float]) -> None:
    observed = [value for value in values if not np.isnan(value)]
    steps = [abs(b - a) for a, b in pairwise(observed)]
    expected = max(float(np.mean(steps)), 0.5) if steps else 0.5
    assert naive_scale(np.array([values], dtype=np.float64), 0.5) == pytest.approx([expected])


def test_each_window_may_have_its_own_floor() -> None:
    scale = naive_scale(np.full((2, 3), 5.0), np.array([0.5, 2.0]))
    assert scale.tolist() == [0.5, 2.0]


def test_a_perfect_forecast_has_the_ideal_values() -> None:
    target = np.array([[70.0, 80.0, 75.0]])
    totals = score(target, np.repeat(target[..., None], 9, axis=2), np.ones((1, 4)))
    for name, metric in METRICS.items():
        assert totals.metric(name) == pytest.approx(metric.ideal if metric.lower_is_better else 1.0)


def test_unknown_metrics_are_refused_by_name() -> None:
    target, quantiles, context = some_windows()
    with pytest.raises(UsageError, match="unknown metric 'wqll'; did you mean 'wql'"):
        window_totals(target, quantiles, LEVELS, context, 1.0, ["wqll"])
    totals = window_totals(target, quantiles, LEVELS, context, 1.0, ["mae"])
    with pytest.raises(UsageError, match="metric 'mse' was not computed, only mae"):
        totals.metric("mse")


def test_shapes_and_levels_that_do_not_fit_are_refused() -> None:
    target, quantiles, context = some_windows()
    with pytest.raises(UsageError, match=r"must fit together, got \(40, 5\)"):
        window_totals(target[:, :5], quantiles, LEVELS, context, 1.0)
    with pytest.raises(UsageError, match=r"quantile level 0\.5 is needed, got 0\.1, 0\.9"):
        window_totals(target, quantiles[..., [0, 8]], (0.1, 0.9), context, 1.0)
    with pytest.raises(UsageError, match=r"quantile level 0\.1 is needed"):
        window_totals(target, quantiles[..., 4:5], (0.5,), context, 1.0, ["coverage_80"])


def warping_by_recurrence(first: list[float], second: list[float]) -> float:
    """Sakoe and Chiba's recurrence, written out for one pair."""
    n, m = len(first), len(second)
    g = [[float("inf")] * m for _ in range(n)]
    for i in range(n):
        for j in range(m):
            d = abs(first[i] - second[j])
            ways = [2 * d] if i == j == 0 else []
            if i:
                ways.append(g[i - 1][j] + d)
            if j:
                ways.append(g[i][j - 1] + d)
            if i and j:
                ways.append(g[i - 1][j - 1] + 2 * d)
            g[i][j] = min(ways)
    return g[-1][-1] / (n + m)


numbers = st.floats(-100, 100, width=32)


@given(
    arrays(np.float64, (2, 4, 6), elements=numbers),
    st.lists(st.integers(1, 6), min_size=4, max_size=4),
)
def test_warping_agrees_with_the_plain_recurrence(pair: Array, length: list[int]) -> None:
    distance = warping_distance(pair[0], pair[1], np.array(length))
    expected = [
        warping_by_recurrence(pair[0, row, :n].tolist(), pair[1, row, :n].tolist())
        for row, n in enumerate(length)
    ]
    np.testing.assert_allclose(distance, expected, rtol=1e-12, atol=1e-12)


@given(arrays(np.float64, (2, 3, 5), elements=numbers))
def test_warping_is_symmetric_and_at_most_the_mean_absolute_difference(pair: Array) -> None:
    length = np.full(3, 5)
    distance = warping_distance(pair[0], pair[1], length)
    np.testing.assert_allclose(distance, warping_distance(pair[1], pair[0], length), atol=1e-12)
    assert (distance <= np.abs(pair[0] - pair[1]).mean(axis=1) + 1e-9).all()


def test_warping_forgives_a_peak_one_step_late() -> None:
    peak = np.array([[0.0, 5.0, 0.0, 0.0]])
    late = np.array([[0.0, 0.0, 5.0, 0.0]])
    assert warping_distance(peak, late, np.array([4])) == pytest.approx([0.0])


def test_warping_does_not_forgive_a_constant_offset() -> None:
    flat = np.zeros((1, 4))
    assert warping_distance(flat, flat + 3.0, np.array([4])) == pytest.approx([3.0])


def test_warping_of_no_step_gives_no_distance() -> None:
    assert warping_distance(np.ones((1, 3)), np.zeros((1, 3)), np.array([0])) == pytest.approx([0])
