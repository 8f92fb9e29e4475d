from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from common.backbones.loading import load_backbone
from simulation.pretraining import NANO_MODELS, default_folder, pretrain
from simulation.pretraining.models.chronos2_nano import (
    CHRONOS2_NANO,
    CHRONOS2_QUANTILES,
    RECIPE,
    build,
    predict_quantiles,
    window_loss,
)
from simulation.pretraining.train import WindowBatch, held_out_batches, mean_loss

NAME = "chronos2-nano"


@pytest.fixture
def model() -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return build(RECIPE).eval()


def batch(context_steps: int) -> WindowBatch:
    generator = torch.Generator().manual_seed(1)
    return WindowBatch(
        torch.randn(4, context_steps, generator=generator), torch.randn(4, 24, generator=generator)
    )


def test_a_short_run_writes_a_folder_that_the_pipeline_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = dataclasses.replace(
        RECIPE, batch_size=8, series_per_chunk=64, held_out_batches=1, steps=2
    )
    monkeypatch.setitem(NANO_MODELS, NAME, dataclasses.replace(CHRONOS2_NANO, recipe=recipe))

    pretrain(NAME, tmp_path / NAME)

    names = {"README.md", "config.json", "model.safetensors", "recipe.json", "training_log.csv"}
    assert {path.name for path in (tmp_path / NAME).iterdir()} == names
    context = torch.sin(torch.arange(48.0)).repeat(3, 1)
    context[0, :20] = torch.nan
    quantiles = predict_quantiles(tmp_path / NAME, context, 6)
    assert quantiles.shape == (3, 6, 9)
    assert quantiles.isfinite().all()
    assert (quantiles.diff(dim=2) >= 0).all()


def test_window_loss_of_a_row_does_not_depend_on_its_neighbours(model: Any) -> None:
    context, target = batch(48)
    context[1, :10] = torch.nan
    target[2, 2:] = torch.nan

    losses = window_loss(model, WindowBatch(context, target))

    assert losses.shape == (4,)
    for row in range(4):
        alone = window_loss(model, WindowBatch(context[row : row + 1], target[row : row + 1]))
        torch.testing.assert_close(alone[0], losses[row])


@pytest.mark.parametrize("context_steps", [47, 48, 52])
def test_window_loss_is_the_published_one_where_nothing_is_missing(
    model: Any, context_steps: int
) -> None:
    context, target = batch(context_steps)
    patches = 1 + context_steps % 6

    published = model(
        context=context, future_target=target[:, : 4 * patches], num_output_patches=patches
    ).loss  # theirs sums over the levels

    losses = window_loss(model, WindowBatch(context, target))
    torch.testing.assert_close(losses.mean(), published / len(CHRONOS2_QUANTILES))


def test_training_meets_every_number_of_patches_ahead(model: Any) -> None:
    steps = {int((model_gradient(model, length) > 0).sum()) for length in range(24, 24 + 6)}

    assert steps == {4, 8, 12, 16, 20, 24}


def model_gradient(model: Any, context_steps: int) -> torch.Tensor:
    """Return how each target step moves the loss, [24]."""
    context, target = batch(context_steps)
    target.requires_grad_()
    (slope,) = torch.autograd.grad(window_loss(model, WindowBatch(context, target)).sum(), target)
    return slope.abs().amax(dim=0)


def test_a_constant_context_does_not_make_the_loss_explode(model: Any) -> None:
    constant = WindowBatch(torch.full((1, 48), 98.0), torch.full((1, 24), 97.0))

    assert float(window_loss(model, constant).detach()) < 50


def test_the_shipped_weights_load_and_forecast() -> None:
    from chronos import BaseChronosPipeline, Chronos2Pipeline

    pipeline = BaseChronosPipeline.from_pretrained(default_folder(NAME))

    assert isinstance(pipeline, Chronos2Pipeline)
    parameters = list(pipeline.model.parameters())
    assert sum(parameter.numel() for parameter in parameters) == 712_200
    assert all(parameter.dtype == torch.float32 for parameter in parameters)
    (quantiles,), (median,) = pipeline.predict_quantiles(torch.arange(48.0)[None, None], 24)
    assert quantiles.shape == (1, 24, 9)
    assert float(median[0, -1]) > 47.0  # a rise is not forecast to fall below its last value
    assert load_backbone(NAME).backbone.family == "chronos-2"


def test_the_shipped_weights_have_the_recorded_loss_on_held_out_series() -> None:
    from chronos import Chronos2Pipeline

    folder = default_folder(NAME)
    recorded = json.loads((folder / "recipe.json").read_text())["held_out_synthetic_loss"]
    trained = Chronos2Pipeline.from_pretrained(folder).model

    # Another processor's rounding may turn single values of a rounded series.
    loss = mean_loss(trained, held_out_batches(RECIPE), window_loss)

    assert loss == pytest.approx(recorded, rel=0.01)
