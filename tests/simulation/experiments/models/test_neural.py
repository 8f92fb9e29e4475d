"""Networks of neuralforecast, where it is installed, through the project's own training."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch

from common.backbones.base import ModelForecaster
from common.config.run_config import RunConfig
from common.errors import UsageError
from common.evaluation.evaluate import LEVELS
from simulation.experiments.cell_cache import Cell
from simulation.experiments.models.neural import NETWORKS, NeuralForecast, build_network
from simulation.experiments.models.registry import METHODS

installed = pytest.mark.skipif(
    find_spec("neuralforecast") is None,
    reason='neuralforecast is not installed; pip install "fedvitals[experiments]"',
)
KINDS = sorted(NETWORKS)


def contexts(count: int) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    random = np.random.default_rng(0)
    values = (80 + 5 * random.normal(size=(count, 24)).cumsum(axis=1)).astype(np.float32)
    values[random.random(values.shape) < 0.2] = np.nan
    values[:, 3] = 80
    return values


def test_what_is_not_installed_is_said(quick: RunConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("simulation.experiments.models.neural.find_spec", lambda _name: None)
    with pytest.raises(UsageError, match="need the package neuralforecast"):
        build_network("nhits", quick.windows, 0)


@installed
@pytest.mark.slow
@pytest.mark.parametrize("name", KINDS)
def test_weights_are_those_of_the_seed_and_all_take_gradients(quick: RunConfig, name: str) -> None:
    state = torch.get_rng_state()
    one, same, other = (build_network(name, quick.windows, seed) for seed in (1, 1, 2))
    assert torch.equal(state, torch.get_rng_state())
    first, second, third = (list(network.parameters()) for network in (one, same, other))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert any(not torch.equal(a, b) for a, b in zip(first, third, strict=True))


@installed
@pytest.mark.slow
@pytest.mark.parametrize("name", KINDS)
def test_a_windows_loss_and_forecast_are_its_own(quick: RunConfig, name: str) -> None:
    network = build_network(name, quick.windows, 0).eval()
    kind = NeuralForecast()
    context, vital = contexts(5), np.zeros(5, np.int64)
    target = np.full((5, quick.windows.horizon), 82.0, np.float32)
    target[:, 1] = np.nan
    whole = kind.window_loss(network, kind.collate(context, target, vital))
    alone = kind.window_loss(network, kind.collate(context[2:3], target[2:3], vital[2:3]))
    torch.testing.assert_close(whole[2:3], alone)
    forecast = ModelForecaster(kind, network).forecast(context, vital, quick.windows.horizon)
    assert forecast.shape == (5, quick.windows.horizon, len(LEVELS))
    assert (np.diff(forecast, axis=2) >= 0).all()
    # A stretched and shifted context is forecast stretched and shifted.
    moved = ModelForecaster(kind, network).forecast(3 * context + 20, vital, quick.windows.horizon)
    np.testing.assert_allclose(moved, 3 * forecast + 20, rtol=1e-4)


@installed
@pytest.mark.slow
@pytest.mark.parametrize("name", KINDS)
def test_a_network_learns_from_the_pooled_windows(quick: RunConfig, name: str) -> None:
    config = quick.replace(rounds=3, train=quick.train.replace(steps=8))
    cell = Cell("x", name, config, options={"learning-rate": 1e-3})
    result = METHODS[name].run(cell, Path(), lambda _: None)
    assert result.facts["validation"] < 1.0
    assert set(result.scores) == {"ccu", "micu", "sicu"}
