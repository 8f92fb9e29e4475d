from __future__ import annotations

import numpy as np
import pytest
import torch

from common.backbones.base import ModelForecaster
from common.backbones.loading import load_backbone
from common.evaluation.evaluate import LEVELS
from simulation.pretraining import NANO_MODELS, default_folder
from simulation.pretraining.models.moirai_nano import (
    build,
    predict_quantiles,
    window_loss,
)
from simulation.pretraining.train import WindowBatch

pytest.importorskip("uni2ts", reason='MOIRAI needs the extra: pip install "fedvitals[moirai]"')

NAME = "moirai-nano"


def windows() -> WindowBatch:
    generator = torch.Generator().manual_seed(0)
    context, target = (torch.randn(4, size, generator=generator) for size in (48, 24))
    context[1, :10] = torch.nan
    target[2, 5:] = torch.nan
    return WindowBatch(context, target)


def test_window_loss_reads_neither_level_nor_unit() -> None:
    torch.manual_seed(0)
    model = build(NANO_MODELS[NAME].recipe).eval()
    context, target = windows()

    here, there = (
        window_loss(model, WindowBatch(scale * context + shift, scale * target + shift))
        for scale, shift in ((1.0, 0.0), (10.0, 300.0))
    )

    torch.testing.assert_close(here, there, rtol=1e-3, atol=1e-3)


def test_the_backbone_forecasts_as_the_package_does() -> None:
    # Quantiles by inversion against the package's samples, on the shipped weights.
    loaded = load_backbone(NAME)
    random = np.random.default_rng(0)
    context = (85 + random.normal(0, 4, (24, 48)).cumsum(axis=1)).astype(np.float32)
    ours = ModelForecaster(loaded.backbone, loaded.model).forecast(context, np.zeros(24, int), 6)
    theirs = predict_quantiles(default_folder(NAME), torch.from_numpy(context), 6).numpy()
    spread = context.std(axis=1)[:, None, None]
    difference = (ours - theirs) / spread
    # 200 samples: a single quantile is off by some 7 % of a deviation, their mean by far less.
    assert np.abs(difference).mean() < 0.1
    assert np.abs(difference.mean(axis=(0, 1))).max() < 0.05
    assert len(LEVELS) == ours.shape[2]
