"""`chronos-t5-nano`: its recipe builds the real network, and the shipped weights are its own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from chronos import BaseChronosPipeline, ChronosPipeline
from transformers import T5ForConditionalGeneration

from simulation.pretraining import default_folder
from simulation.pretraining.models.chronos_t5_nano import (
    CHRONOS_T5_NANO,
    RECIPE,
    build,
    window_loss,
)
from simulation.pretraining.train import WindowBatch

NAME = "chronos-t5-nano"


@pytest.fixture(scope="module")
def random_weights() -> torch.nn.Module:
    torch.manual_seed(0)
    return build(RECIPE).eval()


def test_the_loss_of_a_row_is_its_own_whatever_its_scale(random_weights: torch.nn.Module) -> None:
    torch.manual_seed(1)
    context, target = torch.randn(4, 40), torch.randn(4, RECIPE.horizon)
    context[2, :7], target[2, 3] = torch.nan, torch.nan
    together = window_loss(random_weights, WindowBatch(context, target))
    # Powers of two, so that no value changes its bin by rounding.
    alone = window_loss(random_weights, WindowBatch(8 * context[2:3], 8 * target[2:3]))
    assert together.shape == (4,)
    torch.testing.assert_close(alone[0], together[2])


def test_forecasts_move_with_the_level_and_leave_the_random_state(
    tmp_path: Path, random_weights: torch.nn.Module
) -> None:
    CHRONOS_T5_NANO.save(random_weights, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "model.safetensors"]
    context = torch.randint(-8, 8, (3, 30)).float()
    context[0, 4:9] = torch.nan
    state = torch.get_rng_state()
    low, high = (
        CHRONOS_T5_NANO.predict_quantiles(tmp_path, context + level, 5) for level in (0.0, 1024.0)
    )
    assert torch.equal(torch.get_rng_state(), state)
    assert low.shape == (3, 5, 9)
    assert (low.diff(dim=2) >= 0).all()
    torch.testing.assert_close(high - 1024, low, atol=1e-3, rtol=0)


def test_the_shipped_weights_load_and_forecast() -> None:
    pipeline = BaseChronosPipeline.from_pretrained(default_folder(NAME))
    assert isinstance(pipeline, ChronosPipeline)
    assert isinstance(pipeline.model.model, T5ForConditionalGeneration)
    record = json.loads((default_folder(NAME) / "recipe.json").read_text())
    assert record["parameters"] == sum(p.numel() for p in pipeline.model.parameters())
    # Noise about a level: the forecast keeps the level, and its interval is as wide as the noise.
    noise = torch.randn(2, 48, generator=torch.Generator().manual_seed(0))
    level, deviation = torch.tensor([[80.0], [-3.0]]), torch.tensor([[5.0], [1.0]])
    forecast = CHRONOS_T5_NANO.predict_quantiles(default_folder(NAME), level + deviation * noise, 6)
    assert ((forecast[:, :, 4] - level).abs() < deviation).all()
    width = (forecast[:, :, 8] - forecast[:, :, 0]) / deviation
    assert ((width > 1.5) & (width < 4)).all()
