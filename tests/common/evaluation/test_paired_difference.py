from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np
import pytest

from common.data.vitals import VITAL_NAMES
from common.data.windows import FloatArray, IntArray, Windows
from common.errors import UsageError
from common.evaluation.bootstrap import LEAST_PATIENTS
from common.evaluation.evaluate import LEVELS, Evaluation, evaluate
from common.evaluation.metrics import METRICS
from common.evaluation.paired_difference import compare

ALL_METRICS = tuple(METRICS)


@dataclass
class Oracle:
    """Forecasts the true value 80 plus an error proportional to the vital's index + 1."""

    error: float

    def forecast(self, context: FloatArray, vital: IntArray, horizon_steps: int) -> FloatArray:
        median = 80.0 + self.error * (1.0 + vital[:, None, None])
        quantiles = median + np.linspace(-1, 1, len(LEVELS))
        return np.repeat(quantiles, horizon_steps, axis=1).astype(np.float32)


def noisy_windows(patients: int = 60, vitals: int = 2, seed: int = 0) -> Windows:
    """Ten windows a patient; each patient has a noise level."""
    rng = np.random.default_rng(seed)
    patient = np.repeat(np.arange(patients), 10)
    noise = rng.gamma(1.0, 2.0, patients)[patient, None]
    return Windows(
        context=rng.normal(80, 5, (len(patient), 12)).astype(np.float32),
        target=(80.0 + noise * rng.normal(size=(len(patient), 6))).astype(np.float32),
        vital=rng.integers(0, vitals, len(patient)),
        patient=patient,
        patient_ids=tuple(f"p{index}" for index in range(patients)),
    )


def evaluated(windows: Windows, error: float) -> Evaluation:
    return evaluate(windows, Oracle(error), metrics=ALL_METRICS)


def test_estimates_are_those_of_the_two_evaluations() -> None:
    windows = noisy_windows()
    a, b = evaluated(windows, 1.0), evaluated(windows, 2.0)
    result = compare(a, b)
    assert list(result.vitals) == ["heart_rate", "sbp"]
    assert result.patients == 60
    for name in ALL_METRICS:
        relative = []
        for vital, row in result.vitals.items():
            ours, theirs = a.metric(name, vital), b.metric(name, vital)
            absolute = row[name].absolute
            assert absolute is not None
            assert absolute.estimate == pytest.approx(ours - theirs)
            assert row[name].relative.estimate == pytest.approx(ours / theirs - 1)
            relative.append(ours / theirs - 1)
        assert result.mean[name].relative.estimate == pytest.approx(np.mean(relative))
    wql = result.mean["wql"].absolute
    assert wql is not None
    assert wql.estimate == pytest.approx(a.metric("wql") - b.metric("wql"))


def test_units_are_never_added_up() -> None:
    windows = noisy_windows()
    result = compare(evaluated(windows, 1.0), evaluated(windows, 2.0))
    without = {name for name, difference in result.mean.items() if difference.absolute is None}
    assert without == {"mae", "mse", "rmse", "dtw"}


def test_a_better_model_is_certain_only_as_far_as_patients_agree() -> None:
    windows = noisy_windows()
    better = compare(evaluated(windows, 0.0), evaluated(windows, 3.0)).mean["mae"].relative
    assert better.low < better.estimate < better.high < 0
    same = compare(evaluated(windows, 1.0), evaluated(windows, 1.0)).mean["mae"].relative
    assert (same.low, same.estimate, same.high) == (0, 0, 0)
    few = noisy_windows(patients=LEAST_PATIENTS)
    rough = compare(evaluated(few, 0.0), evaluated(few, 3.0)).mean["mae"].relative
    assert rough.high - rough.low > better.high - better.low


def test_swapping_the_models_mirrors_the_absolute_interval() -> None:
    windows = noisy_windows()
    a, b = evaluated(windows, 1.0), evaluated(windows, 2.0)
    forth = compare(a, b, seed=3).vitals["sbp"]["mae"].absolute
    back = compare(b, a, seed=3).vitals["sbp"]["mae"].absolute
    assert forth is not None
    assert back is not None
    assert (forth.low, forth.high) == pytest.approx((-back.high, -back.low))


def test_patients_without_windows_are_not_resampled() -> None:
    windows = noisy_windows()
    part = windows.take(windows.patient < 5)
    alone = noisy_windows().take(windows.patient < 5)
    alone = Windows(
        alone.context, alone.target, alone.vital, alone.patient, windows.patient_ids[:5]
    )
    results = [compare(evaluated(w, 1.0), evaluated(w, 2.0)) for w in (part, alone)]
    assert results[0].patients == results[1].patients == 5
    assert results[0].to_json() == results[1].to_json()


def test_one_patient_alone_has_no_interval() -> None:
    windows = noisy_windows()
    windows.vital[windows.patient > 0] = 0
    windows.vital[windows.patient == 0] = VITAL_NAMES.index("spo2")
    result = compare(evaluated(windows, 1.0), evaluated(windows, 2.0))
    alone, many = result.vitals["spo2"]["mae"].relative, result.vitals["heart_rate"]["mae"].relative
    assert np.isfinite(alone.estimate)
    assert np.isnan([alone.low, alone.high]).all()
    assert np.isfinite([many.low, many.high]).all()


def test_no_window_compares_to_nothing_but_valid_json() -> None:
    windows = noisy_windows().take(slice(0, 0))
    result = compare(evaluated(windows, 1.0), evaluated(windows, 2.0))
    plain = json.loads(json.dumps(result.to_json(), allow_nan=False))
    assert plain["vitals"] == {}
    assert plain["patients"] == 0
    assert plain["mean"]["wql"]["relative"] == {"estimate": None, "low": None, "high": None}


def test_a_reference_of_zero_leaves_the_relative_difference_undefined() -> None:
    windows = noisy_windows(vitals=1)
    windows.target[:] = 80.0
    row = compare(evaluated(windows, 1.0), evaluated(windows, 0.0)).vitals["heart_rate"]["mae"]
    assert np.isnan(row.relative.estimate)
    assert row.absolute is not None
    assert row.absolute.estimate == pytest.approx(1.0)


def test_other_windows_or_metrics_are_refused() -> None:
    windows = noisy_windows()
    a = evaluated(windows, 1.0)
    with pytest.raises(UsageError, match="only evaluations of the same windows can be compared"):
        compare(a, evaluated(windows.take(slice(0, 500)), 1.0))
    shifted = noisy_windows()
    shifted.target[0] += 1.0
    with pytest.raises(UsageError, match="only evaluations of the same windows can be compared"):
        compare(a, evaluated(shifted, 1.0))
    b = evaluate(windows, Oracle(2.0), metrics=["mae", "wql"])
    assert list(compare(a, b).mean) == ["mae", "wql"]
    with pytest.raises(UsageError, match="metric 'dtw' was not computed, only mae, wql"):
        compare(a, b, metrics=["dtw"])
