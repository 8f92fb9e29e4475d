from __future__ import annotations

import json
from dataclasses import dataclass, replace

import numpy as np
import pytest

from common.data.windows import FloatArray, IntArray, Windows
from common.errors import UsageError
from common.evaluation.calibration import Calibration, calibrate
from common.evaluation.evaluate import LEVELS, evaluate

nan = float("nan")


@dataclass
class Uniform:
    """Forecasts a uniform distribution from 0 to `width`."""

    width: float = 1.0

    def forecast(self, context: FloatArray, vital: IntArray, horizon_steps: int) -> FloatArray:
        quantiles = self.width * np.array(LEVELS)
        return np.broadcast_to(quantiles, (len(context), horizon_steps, len(LEVELS))).astype("f4")


def uniform_windows(patients: int = 200, vitals: int = 2) -> Windows:
    """Uniform targets from 0 to 1, ten windows a patient."""
    rng = np.random.default_rng(0)
    patient = np.repeat(np.arange(patients), 10)
    target = rng.random((len(patient), 6)).astype(np.float32)
    target[rng.random(target.shape) < 0.2] = nan
    return Windows(
        context=np.ones((len(patient), 12), np.float32),
        target=target,
        vital=rng.integers(0, vitals, len(patient)),
        patient=patient,
        patient_ids=tuple(f"p{index}" for index in range(patients)),
    )


def calibrated(windows: Windows, width: float = 1.0) -> Calibration:
    return calibrate(evaluate(windows, Uniform(width)), replicates=200)


def test_shares_are_those_of_a_loop_over_all_steps() -> None:
    windows = uniform_windows(patients=20)
    result = calibrated(windows, 0.7)
    assert list(result.vitals) == ["heart_rate", "sbp"]
    shares = []
    for index, curve in enumerate(result.vitals.values()):
        steps = [float(y) for y in windows.of_vital(index).target.ravel() if not np.isnan(y)]
        bounds = [np.float32(0.7 * level) for level in LEVELS]
        expected = [sum(y <= bound for y in steps) / len(steps) for bound in bounds]
        assert [one.estimate for one in curve.below] == pytest.approx(expected)
        inside = sum(bounds[0] <= y <= bounds[-1] for y in steps) / len(steps)
        assert curve.inside_80.estimate == pytest.approx(inside)
        shares.append(expected)
    mean = [one.estimate for one in result.mean.below]
    assert mean == pytest.approx(np.mean(shares, axis=0))


def test_a_calibrated_forecast_is_on_the_diagonal_and_a_wide_one_does_not() -> None:
    windows = uniform_windows()
    right, wide = calibrated(windows), calibrated(windows, 1.5)
    for level, on, off in zip(LEVELS, right.mean.below, wide.mean.below, strict=True):
        assert on.low < level < on.high
        assert on.high - on.low < 0.05
        assert off.low > level
    assert right.mean.inside_80.low < 0.8 < right.mean.inside_80.high
    assert wide.mean.inside_80.low > 0.8


def test_one_patient_gives_shares_without_intervals() -> None:
    windows = uniform_windows(patients=1)
    text = json.dumps(calibrated(windows).to_json(), allow_nan=False)
    curve = json.loads(text)["vitals"]["heart_rate"]
    assert all(one["estimate"] is not None for one in curve["below"])
    assert all(one["low"] is None and one["high"] is None for one in curve["below"])
    assert json.loads(text)["levels"] == list(LEVELS)


def test_no_window_gives_no_curve() -> None:
    result = calibrated(uniform_windows().take(slice(0, 0)))
    assert result.vitals == {}
    assert np.isnan(result.mean.below[0].estimate)


def test_missing_counts_are_an_error() -> None:
    evaluation = evaluate(uniform_windows(), Uniform())
    with pytest.raises(UsageError, match="has no counts per quantile level"):
        calibrate(replace(evaluation, below=None))
    with pytest.raises(UsageError, match="metric 'coverage_80' was not computed"):
        calibrate(evaluate(uniform_windows(), Uniform(), metrics=["mae"]))
