from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from common.backbones.base import ModelForecaster
from common.backbones.loading import load_backbone
from common.evaluation.evaluate import LEVELS
from simulation.pretraining import NANO_MODELS, default_folder, pretrain
from simulation.pretraining.export import file_sha256
from simulation.pretraining.models.moirai_nano import (
    build,
    predict_quantiles,
    window_loss,
)
from simulation.pretraining.train import WindowBatch, held_out_batches, mean_loss

pytest.importorskip("uni2ts", reason='MOIRAI needs the extra: pip install "fedvitals[moirai]"')

NAME = "moirai-nano"


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """The shipped architecture on fewer series: the run is over in a second."""
    nano = NANO_MODELS[NAME]
    recipe = dataclasses.replace(
        nano.recipe, batch_size=8, series_per_chunk=64, held_out_batches=1, steps=2
    )
    monkeypatch.setitem(NANO_MODELS, NAME, dataclasses.replace(nano, recipe=recipe))


def windows() -> WindowBatch:
    generator = torch.Generator().manual_seed(0)
    context, target = (torch.randn(4, size, generator=generator) for size in (48, 24))
    context[1, :10] = torch.nan
    target[2, 5:] = torch.nan
    return WindowBatch(context, target)


@pytest.mark.usefixtures("small")
def test_a_run_writes_the_layout_of_the_hub_and_remakes_itself(tmp_path: Path) -> None:
    for name in ("a", "b"):
        pretrain(NAME, tmp_path / name)

    names = {"README.md", "config.json", "model.safetensors", "recipe.json", "training_log.csv"}
    assert {path.name for path in (tmp_path / "a").iterdir()} == names
    first, again = (file_sha256(tmp_path / name / "model.safetensors") for name in "ab")
    assert first == again
    versions = json.loads((tmp_path / "a" / "recipe.json").read_text())["versions"]
    assert "timecopilot-uni2ts" in versions
    quantiles = predict_quantiles(tmp_path / "a", windows().context, 6)
    assert quantiles.shape == (4, 6, 9)
    assert quantiles.isfinite().all()
    torch.testing.assert_close(predict_quantiles(tmp_path / "a", windows().context, 6), quantiles)


def test_window_loss_of_a_row_does_not_depend_on_its_neighbours() -> None:
    torch.manual_seed(0)
    model = build(NANO_MODELS[NAME].recipe).eval()
    context, target = windows()

    losses = window_loss(model, WindowBatch(context, target))

    assert losses.shape == (4,)
    for row in range(4):
        alone = window_loss(model, WindowBatch(context[row : row + 1], target[row : row + 1]))
        torch.testing.assert_close(alone[0], losses[row], rtol=1e-4, atol=1e-4)


def test_window_loss_reads_neither_level_nor_unit() -> None:
    torch.manual_seed(0)
    model = build(NANO_MODELS[NAME].recipe).eval()
    context, target = windows()

    here, there = (
        window_loss(model, WindowBatch(scale * context + shift, scale * target + shift))
        for scale, shift in ((1.0, 0.0), (10.0, 300.0))
    )

    torch.testing.assert_close(here, there, rtol=1e-3, atol=1e-3)


def test_a_constant_context_does_not_make_the_loss_explode() -> None:
    torch.manual_seed(0)
    model = build(NANO_MODELS[NAME].recipe).eval()

    batch = WindowBatch(torch.full((1, 48), 98.0), torch.full((1, 24), 97.0))

    assert float(window_loss(model, batch).detach()) < 50


def test_the_shipped_weights_have_the_recorded_loss_on_held_out_series() -> None:
    from uni2ts.model.moirai import MoiraiModule

    folder = default_folder(NAME)
    model = MoiraiModule.from_pretrained(folder).eval()
    record = json.loads((folder / "recipe.json").read_text())
    assert sum(parameter.numel() for parameter in model.parameters()) == record["parameters"]

    # Another processor's rounding may turn single values of a rounded series.
    loss = mean_loss(model, held_out_batches(NANO_MODELS[NAME].recipe), window_loss)

    assert loss == pytest.approx(record["held_out_synthetic_loss"], abs=0.01)


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
