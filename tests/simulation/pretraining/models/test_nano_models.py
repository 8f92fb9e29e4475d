"""Properties of every nano model: a short run, the loss of a window, and the shipped weights."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch

from common.backbones.catalog import CATALOG
from common.backbones.loading import load_backbone
from common.files.hashing import file_sha256
from simulation.pretraining import NANO_MODELS, NanoModel, default_folder, pretrain
from simulation.pretraining.train import WindowBatch, held_out_batches, mean_loss


@pytest.fixture(
    params=[
        pytest.param(
            name,
            marks=pytest.mark.skipif(
                name == "moirai-nano" and find_spec("uni2ts") is None,
                reason='MOIRAI needs the extra: pip install "fedvitals[moirai]"',
            ),
        )
        for name in NANO_MODELS
    ]
)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def nano(name: str) -> NanoModel:
    return NANO_MODELS[name]


@pytest.fixture
def model(nano: NanoModel) -> torch.nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nano.build(nano.recipe).eval()


def test_a_short_run_is_repeatable_and_its_folder_forecasts(
    name: str, nano: NanoModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = dataclasses.replace(
        nano.recipe, batch_size=8, series_per_chunk=64, held_out_batches=1, steps=2
    )
    monkeypatch.setitem(NANO_MODELS, name, dataclasses.replace(nano, recipe=recipe))
    for folder in "ab":
        pretrain(name, tmp_path / folder)

    files = {"README.md", "config.json", "model.safetensors", "recipe.json", "training_log.csv"}
    assert {path.name for path in (tmp_path / "a").iterdir()} == files
    first, again = (file_sha256(tmp_path / folder / "model.safetensors") for folder in "ab")
    assert first == again
    record = json.loads((tmp_path / "a" / "recipe.json").read_text())
    assert set(nano.packages) < set(record["versions"])
    loaded = load_backbone(str(tmp_path / "a"))
    assert loaded.backbone.family == CATALOG[name].family
    context = torch.sin(torch.arange(48.0)).repeat(3, 1)
    context[0, :20] = torch.nan
    quantiles = nano.predict_quantiles(tmp_path / "a", context, 6)
    assert quantiles.shape == (3, 6, 9)
    assert quantiles.isfinite().all()
    assert (quantiles.diff(dim=2) >= 0).all()
    torch.testing.assert_close(nano.predict_quantiles(tmp_path / "a", context, 6), quantiles)


def test_the_loss_of_a_window_does_not_depend_on_the_others(
    nano: NanoModel, model: torch.nn.Module
) -> None:
    generator = torch.Generator().manual_seed(1)
    context = torch.randn(4, 48, generator=generator)
    target = torch.randn(4, nano.recipe.horizon, generator=generator)
    context[1, :10] = torch.nan
    target[2, 2:] = torch.nan
    together = nano.window_loss(model, WindowBatch(context, target))
    assert together.shape == (4,)
    for row in range(4):
        blank = torch.arange(4) != row
        others = WindowBatch(
            context.masked_fill(blank[:, None], torch.nan),
            target.masked_fill(blank[:, None], torch.nan),
        )
        # Sums of blocks of another size round differently.
        torch.testing.assert_close(
            nano.window_loss(model, others)[row], together[row], rtol=1e-4, atol=1e-4
        )


def test_a_constant_context_does_not_make_the_loss_explode(
    nano: NanoModel, model: torch.nn.Module
) -> None:
    constant = torch.full((1, 48), 98.0), torch.full((1, nano.recipe.horizon), 97.0)
    assert float(nano.window_loss(model, WindowBatch(*constant)).detach()) < 50


def bolt(folder: Path) -> Any:
    from chronos import ChronosBoltPipeline

    return ChronosBoltPipeline.from_pretrained(folder).model


def chronos2(folder: Path) -> Any:
    from chronos import Chronos2Pipeline

    return Chronos2Pipeline.from_pretrained(folder).model


def moirai(folder: Path) -> Any:
    from uni2ts.model.moirai import MoiraiModule

    return MoiraiModule.from_pretrained(folder).eval()


LOADERS: dict[str, Callable[[Path], Any]] = {
    "chronos-bolt-nano": bolt,
    "chronos2-nano": chronos2,
    "moirai-nano": moirai,
}
"""Loaders without the lower bound of the scale, which fedvitals adds to these families."""


def test_the_shipped_weights_have_the_recorded_size_and_loss(name: str, nano: NanoModel) -> None:
    folder = default_folder(name)
    record = json.loads((folder / "recipe.json").read_text())
    load = LOADERS.get(name)
    trained = load(folder) if load is not None else load_backbone(name).model
    assert sum(parameter.numel() for parameter in trained.parameters()) == record["parameters"]
    assert all(parameter.dtype == torch.float32 for parameter in trained.parameters())

    loss = mean_loss(trained, held_out_batches(nano.recipe), nano.window_loss)

    # Another processor may round single values of a rounded series, or of a bin, differently.
    assert loss == pytest.approx(record["held_out_synthetic_loss"], rel=0.01, abs=0.01)
