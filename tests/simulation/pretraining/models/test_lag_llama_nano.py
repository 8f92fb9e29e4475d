from __future__ import annotations

import json

import pytest
import torch
from torch import nn

from common.backbones.base import plain_model
from common.backbones.lag_llama.network import static_features
from common.backbones.lag_llama.sizes import PUBLISHED_LAGS
from common.backbones.loading import load_backbone
from simulation.pretraining import default_folder
from simulation.pretraining.models import lag_llama_nano
from simulation.pretraining.models.lag_llama_nano import (
    RECIPE,
    build,
    predict_quantiles,
    window_loss,
)
from simulation.pretraining.train import WindowBatch

NAME = "lag-llama-nano"


@pytest.fixture
def model() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return build(RECIPE).eval()


def noise(rows: int, steps: int = 60) -> torch.Tensor:
    return torch.randn(rows, steps, generator=torch.Generator().manual_seed(1))


def batch(rows: int = 4) -> WindowBatch:
    values = noise(rows)
    return WindowBatch(values[:, :48], values[:, 48:])


def test_level_and_scale_are_drawn_anew_in_training_only(model: nn.Module) -> None:
    torch.manual_seed(3)
    state = torch.get_rng_state()
    first = window_loss(model, batch())
    assert torch.equal(first, window_loss(model, batch()))
    assert torch.equal(torch.get_rng_state(), state)
    model.train()
    trained = window_loss(model, batch())
    assert not torch.equal(trained, window_loss(model, batch()))
    torch.manual_seed(3)
    assert torch.equal(trained, window_loss(model, batch()))


def test_what_is_told_covers_every_vital_sign(
    model: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[tuple[torch.Tensor, torch.Tensor]] = []

    def spy(loc: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
        told.append((loc, scale))
        return static_features(loc, scale)

    monkeypatch.setattr(lag_llama_nano, "static_features", spy)
    window_loss(model.train(), batch(2000))
    loc, scale = told[0]
    for values, low, high in ((loc, 0.1, 300.0), (scale, 0.05, 50.0)):
        assert values.shape == (2000, 1)
        assert (values < low).any()
        assert (values > high).any()
    both = torch.cat([loc.log1p(), scale.log()], dim=1).T
    assert both.corrcoef()[0, 1].abs() < 0.1


def test_the_shipped_weights_are_those_of_the_recipe() -> None:
    loaded = load_backbone(NAME)
    recorded = json.loads((default_folder(NAME) / "recipe.json").read_text())
    sizes = plain_model(loaded.model).sizes
    assert sizes.to_json() == recorded["recipe"]["architecture"]
    assert set(sizes.lags_seq) < set(PUBLISHED_LAGS)


def test_the_shipped_weights_forecast_alike_in_any_unit() -> None:
    folder, values = default_folder(NAME), noise(60).cumsum(dim=1) / 3
    widths = []
    medians = []
    for factor, level in ((1.0, 0.0), (0.1, 37.0), (15.0, 120.0)):
        quantiles = (predict_quantiles(folder, factor * values + level, 6) - level) / factor
        widths.append(float((quantiles[..., 8] - quantiles[..., 0]).mean()))
        medians.append(quantiles[..., 4])
    assert max(widths) / min(widths) < 1.25
    for other in medians[1:]:
        assert float((other - medians[0]).abs().mean()) < 0.15 * widths[0]


def test_the_shipped_weights_know_how_far_noise_reaches() -> None:
    values = noise(300)
    quantiles = predict_quantiles(default_folder(NAME), 80 + 5 * values[:, :48], 6)
    target = (80 + 5 * values[:, 48:54])[..., None]
    inside = (target >= quantiles[..., :1]) & (target <= quantiles[..., 8:])
    assert 0.7 < float(inside.float().mean()) < 0.9
