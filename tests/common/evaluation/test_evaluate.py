from __future__ import annotations

import json
from dataclasses import dataclass, replace

import numpy as np
import pytest

from common.data.vitals import VITAL_NAMES, VITALS
from common.data.windows import FloatArray, IntArray, Windows
from common.errors import ForecastError, UsageError
from common.evaluation.evaluate import (
    DEFAULT_METRICS,
    LEVELS,
    Evaluation,
    below_mape_floor,
    evaluate,
    pool_evaluations,
)
from common.evaluation.metrics import METRICS, window_totals

nan = float("nan")


@dataclass
class LastStep:
    """Forecasts a spread around the last context value; counts its calls."""

    spread: float = 1.0
    calls: int = 0

    def forecast(self, context: FloatArray, vital: IntArray, horizon_steps: int) -> FloatArray:
        self.calls += 1
        quantiles = context[:, -1:, None] + self.spread * np.linspace(-1, 1, len(LEVELS))
        return np.repeat(quantiles, horizon_steps, axis=1).astype(np.float32)


@dataclass
class Fixed:
    """Returns fixed forecasts."""

    forecasts: FloatArray

    def forecast(self, context: FloatArray, vital: IntArray, horizon_steps: int) -> FloatArray:
        return self.forecasts[: len(context)]


def some_windows(windows: int = 100, vitals: int = 3, seed: int = 0) -> Windows:
    rng = np.random.default_rng(seed)
    target = rng.normal(80, 5, (windows, 6))
    target[rng.random(target.shape) < 0.3] = nan
    target[:, 2] = 81.0
    return Windows(
        context=rng.normal(80, 5, (windows, 12)).astype(np.float32),
        target=target.astype(np.float32),
        vital=rng.integers(0, vitals, windows),
        patient=rng.integers(0, 10, windows),
        patient_ids=tuple(f"p{index}" for index in range(10)),
    )


def test_totals_of_patients_and_vitals_are_those_of_their_windows() -> None:
    windows = some_windows()
    result = evaluate(windows, LastStep(), batch_size=7, metrics=tuple(METRICS))
    for index, vital in enumerate(VITAL_NAMES[:3]):
        chosen = windows.of_vital(index)
        forecast = LastStep().forecast(chosen.context, chosen.vital, 6)
        totals = window_totals(
            chosen.target,
            forecast,
            LEVELS,
            chosen.context,
            VITALS[index].scale_floor,
            mape_floor=VITALS[index].mape_floor,
        )
        for name in METRICS:
            assert result.metric(name, vital) == pytest.approx(totals.metric(name)), name
        for patient in range(10):
            mine = totals.numerator[chosen.patient == patient].sum(axis=0)
            np.testing.assert_allclose(result.numerator[patient, index], mine)


def test_one_breath_near_zero_does_not_move_the_mape_of_thousands() -> None:
    rng = np.random.default_rng(0)
    target = rng.normal(18, 2, (1000, 6)).astype(np.float32)
    windows = Windows(
        context=np.full((1000, 12), 18, np.float32),
        target=target,
        vital=np.full(1000, VITAL_NAMES.index("resp_rate")),
        patient=np.zeros(1000, np.int64),
        patient_ids=("p",),
    )
    before = evaluate(windows, LastStep(), metrics=["mape"]).metric("mape")
    assert below_mape_floor(windows).sum() == 0
    target[500, 3] = 0.01
    after = evaluate(windows, LastStep(), metrics=["mape"]).metric("mape")
    assert abs(after - before) < 0.1
    assert dict(zip(VITAL_NAMES, below_mape_floor(windows), strict=True)) == {
        **dict.fromkeys(VITAL_NAMES, 0),
        "resp_rate": 1,
    }


def test_counts_per_level_are_those_of_a_loop_over_steps() -> None:
    windows = some_windows()
    result = evaluate(windows, LastStep(), batch_size=7)
    forecast = LastStep().forecast(windows.context, windows.vital, 6)
    expected = np.zeros((10, len(VITALS), len(LEVELS)), np.int64)
    for place in range(len(windows)):
        for step in range(6):
            for level in range(len(LEVELS)):
                below = windows.target[place, step] <= forecast[place, step, level]
                expected[windows.patient[place], windows.vital[place], level] += int(below)
    np.testing.assert_array_equal(result.below, expected)


def test_the_mean_is_unweighted_over_the_vitals_that_have_windows() -> None:
    result = evaluate(some_windows(vitals=2), LastStep(), metrics=["mae", "rmse"])
    for name in ("mae", "rmse"):
        values = [result.metric(name, vital) for vital in VITAL_NAMES[:2]]
        assert values[0] != values[1]
        assert result.metric(name) == pytest.approx(np.mean(values))
    assert np.isnan(result.metric("mae", "spo2"))


def test_the_batch_size_changes_nothing_but_the_calls() -> None:
    windows = some_windows()
    large, small = LastStep(), LastStep()
    one = evaluate(windows, large, batch_size=512)
    many = evaluate(windows, small, batch_size=9)
    assert (large.calls, small.calls) == (1, 12)
    np.testing.assert_array_equal(one.numerator, many.numerator)
    np.testing.assert_array_equal(one.denominator, many.denominator)
    np.testing.assert_array_equal(one.below, many.below)


def test_dtw_is_left_out_by_default() -> None:
    result = evaluate(some_windows(), LastStep())
    assert result.metrics == DEFAULT_METRICS == tuple(n for n in METRICS if n != "dtw")
    with pytest.raises(UsageError, match="metric 'dtw' was not computed, only mae, mse"):
        result.metric("dtw")


def test_the_table_is_json_with_counts() -> None:
    windows = some_windows(vitals=2)
    result = evaluate(windows, LastStep(), metrics=["mae", "wql"])
    table = json.loads(json.dumps(result.table(), allow_nan=False))
    assert list(table["vitals"]) == ["heart_rate", "sbp"]
    row, chosen = table["vitals"]["sbp"], windows.of_vital(1)
    assert row == {
        "windows": len(chosen),
        "patients": len(set(chosen.patient.tolist())),
        "observed": int(np.isfinite(chosen.target).sum()),
        "mae": pytest.approx(result.metric("mae", "sbp")),
        "wql": pytest.approx(result.metric("wql", "sbp")),
    }
    assert table["mean"]["windows"] == len(windows)
    assert table["mean"]["patients"] == len(set(windows.patient.tolist()))
    assert table["mean"]["wql"] == pytest.approx(result.metric("wql"))


def test_no_window_gives_an_evaluation_without_values() -> None:
    model = LastStep()
    result = evaluate(some_windows().take(slice(0, 0)), model)
    assert model.calls == 0
    assert np.isnan(result.metric("wql"))
    table = json.loads(json.dumps(result.table(), allow_nan=False))
    assert table["vitals"] == {}
    assert table["mean"]["windows"] == table["mean"]["patients"] == 0
    assert table["mean"]["wql"] is None


def test_sites_pool_to_what_one_site_would_have_given() -> None:
    windows = some_windows()
    first, second = windows.take(slice(0, 30)), windows.take(slice(30, 100))
    pooled = pool_evaluations(
        {"ccu": evaluate(first, LastStep()), "micu": evaluate(second, LastStep())}
    )
    whole = evaluate(windows, LastStep())
    for name in DEFAULT_METRICS:
        assert pooled.metric(name) == pytest.approx(whole.metric(name))
    assert pooled.patient_ids[:2] == ("ccu/p0", "ccu/p1")
    assert len(set(pooled.patient_ids)) == 20
    assert pooled.table()["mean"]["windows"] == 100
    assert pooled.below is not None
    assert whole.below is not None
    np.testing.assert_array_equal(pooled.below.sum(axis=0), whole.below.sum(axis=0))


def test_counts_per_level_pool_only_where_every_site_kept_them() -> None:
    kept = evaluate(some_windows(), LastStep())
    pooled = pool_evaluations({"ccu": kept, "micu": replace(kept, below=None)})
    assert pooled.below is None


def test_only_evaluations_of_the_same_metrics_pool() -> None:
    windows = some_windows()
    one, other = (evaluate(windows, LastStep(), metrics=[name]) for name in ("mae", "wql"))
    with pytest.raises(UsageError, match="got ccu: mae; micu: wql"):
        pool_evaluations({"ccu": one, "micu": other})
    with pytest.raises(UsageError, match="got no site"):
        pool_evaluations({})


@pytest.mark.parametrize("wrong", [nan, float("inf"), -float("inf")])
def test_forecasts_that_are_not_finite_are_refused(wrong: float) -> None:
    windows = some_windows(vitals=1)
    forecasts = LastStep().forecast(windows.context, windows.vital, 6)
    forecasts[3, 5, 8] = wrong
    with pytest.raises(ForecastError) as error:
        evaluate(windows, Fixed(forecasts))
    assert "Fixed returned NaN or infinity for 1 of 100 windows" in str(error.value)
    assert "first for heart_rate" in str(error.value)


def test_forecasts_of_another_shape_are_refused() -> None:
    windows = some_windows()
    with pytest.raises(ForecastError, match=r"shape \(100, 6, 8\), expected \(100, 6, 9\)"):
        evaluate(windows, Fixed(np.zeros((100, 6, 8), np.float32)))


def test_crossing_quantiles_are_refused() -> None:
    with pytest.raises(ForecastError, match="quantiles that cross"):
        evaluate(some_windows(), LastStep(spread=-1.0))


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(UsageError, match="batch_size must be at least 1, got 0"):
        evaluate(some_windows(), LastStep(), batch_size=0)
    with pytest.raises(UsageError, match="unknown metric 'wqll'"):
        evaluate(some_windows().take(slice(0, 0)), LastStep(), metrics=["wqll"])
    result: Evaluation = evaluate(some_windows(), LastStep(), metrics=["mae"])
    with pytest.raises(UsageError, match="unknown vital 'heart'; did you mean 'heart_rate'"):
        result.metric("mae", "heart")
