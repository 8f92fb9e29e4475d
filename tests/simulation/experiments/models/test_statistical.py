from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from common.config.run_config import RunConfig
from common.evaluation.evaluate import LEVELS
from simulation.experiments.cell_cache import Cell, RunCell
from simulation.experiments.models.statistical import (
    autoregressive,
    exponential_smoothing,
    from_first_observed,
    statistical_forecaster,
    without_gaps,
)

NAN = np.nan


def test_gaps_are_filled_by_straight_lines_and_the_ends_by_the_nearest_value() -> None:
    context = np.array([NAN, 10.0, NAN, NAN, 16.0, NAN], np.float32)
    np.testing.assert_allclose(without_gaps(context), [10, 10, 12, 14, 16, 16])
    np.testing.assert_allclose(from_first_observed(context), [10, 12, 14, 16, 16])


def test_a_context_without_gaps_is_unchanged() -> None:
    context = np.array([3.0, 1.0, 2.0], np.float32)
    np.testing.assert_array_equal(without_gaps(context), context)


@pytest.mark.slow
def test_the_bands_of_white_noise_are_those_of_the_normal_distribution() -> None:
    noise = np.random.default_rng(0).normal(80.0, 5.0, (1, 400)).astype(np.float32)
    for name in ("ar", "ets"):
        forecast = statistical_forecaster(name).forecast(noise, np.array([0]), 2)
        assert forecast.shape == (1, 2, len(LEVELS))
        expected = 80.0 + 5.0 * np.array([-1.2816, 0.0, 1.2816])
        np.testing.assert_allclose(forecast[0, 1, [0, 4, 8]], expected, atol=1.0)


@pytest.mark.slow
def test_a_constant_context_is_forecast_as_it_is() -> None:
    context = np.full((1, 24), 98.0, np.float32)
    forecaster = statistical_forecaster("ar")
    np.testing.assert_array_equal(forecaster.forecast(context, np.array([6]), 3), 98.0)
    assert not forecaster.failures


@pytest.mark.slow
@pytest.mark.parametrize("run", [autoregressive, exponential_smoothing])
def test_every_site_is_scored(quick: RunConfig, run: RunCell) -> None:
    cell = Cell("x", "ar", quick.replace(windows=quick.windows.replace(vitals="heart_rate")))
    result = run(cell, Path(), lambda _: None)
    assert set(result.scores) == {"ccu", "micu", "sicu"}
    assert np.isfinite(result.scores["micu"].metric("wql", "heart_rate"))
    windows = sum(int(one.windows.sum()) for one in result.scores.values())
    assert result.facts["fits_failed"] < 0.1 * windows
