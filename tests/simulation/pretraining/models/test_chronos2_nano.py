from __future__ import annotations

from typing import Any

import pytest
import torch

from common.backbones.loading import load_backbone
from simulation.pretraining import default_folder
from simulation.pretraining.models.chronos2_nano import (
    CHRONOS2_QUANTILES,
    RECIPE,
    build,
    window_loss,
)
from simulation.pretraining.train import WindowBatch

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
