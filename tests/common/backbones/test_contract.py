"""The contract of every family, on its packaged checkpoint: the federation knows no family."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from peft import PeftModel

from client.training.adapter_training import train_adapter
from common.adapter.peft_io import load_into, load_peft_folder, save_peft_folder
from common.backbones.base import Batch, ModelForecaster, weights_digest
from common.backbones.catalog import CATALOG
from common.backbones.loading import load_backbone
from common.backbones.lora import AdaptedBackbone, adapted_backbone, lora_parameters
from common.config.run_config import LoraConfig, TrainConfig
from common.config.sections import LORA_SCOPES
from common.data.windows import Windows
from tests.samples.backbones import CONTEXT, HORIZON, windows

PACKAGED = [name for name, entry in CATALOG.items() if entry.packaged]
ROWS = 6


@pytest.fixture(scope="module", params=PACKAGED)
def adapted(request: pytest.FixtureRequest) -> Iterator[AdaptedBackbone]:
    """A packaged model with an adapter whose A and B are both random."""
    entry = CATALOG[request.param]
    if entry.missing_extra:
        pytest.skip(f"{request.param} needs the extra {entry.missing_extra}")
    adapted_backbone.cache_clear()
    made = adapted_backbone(request.param, LoraConfig(rank=2), torch.device("cpu"))
    shake(made)
    yield made
    adapted_backbone.cache_clear()


def shake(adapted: AdaptedBackbone) -> None:
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for _, parameter in lora_parameters(adapted.model):
            parameter.normal_(0, 0.05, generator=generator)


def batch_of(adapted: AdaptedBackbone, rows: list[int], blank_others: bool = False) -> Batch:
    context, target, vital = windows(ROWS)
    context, target, vital = context[rows], target[rows], vital[rows]
    if blank_others:
        context, target = context.copy(), target.copy()
        context[1:], target[1:] = np.nan, np.nan
    return adapted.backbone.collate(context, target, vital)


def first_gradient(adapted: AdaptedBackbone, batch: Batch) -> tuple[float, list[torch.Tensor]]:
    """Loss and gradient of the batch's first window."""
    parameters = [parameter for _, parameter in lora_parameters(adapted.model)]
    loss = adapted.backbone.window_loss(adapted.model, batch)
    assert loss.shape == (len(next(iter(batch.values()))),)
    return loss[0].item(), list(torch.autograd.grad(loss[0], parameters))


@pytest.mark.parametrize(
    ("rows", "blank_others"),
    [
        pytest.param([2], False, id="alone, as one-at-a-time autograd has it"),
        pytest.param([2, 0, 1], False, id="others dropped"),
        pytest.param([2, 5, 4, 3, 1, 0], False, id="others shuffled"),
        pytest.param([2, 0, 1, 3, 4, 5], True, id="others all missing"),
    ],
)
def test_a_window_does_not_feel_its_neighbours(
    adapted: AdaptedBackbone, rows: list[int], blank_others: bool
) -> None:
    loss, gradients = first_gradient(adapted, batch_of(adapted, [2, 0, 1, 3, 4, 5]))
    other_loss, others = first_gradient(adapted, batch_of(adapted, rows, blank_others))
    assert other_loss == pytest.approx(loss, rel=1e-4)
    for mine, other in zip(gradients, others, strict=True):
        torch.testing.assert_close(mine, other, rtol=2e-3, atol=2e-5)


@pytest.mark.parametrize("scope", LORA_SCOPES)
def test_no_matrix_is_dead(adapted: AdaptedBackbone, scope: str) -> None:
    adapted_backbone.cache_clear()
    made = adapted_backbone(adapted.name, LoraConfig(rank=2, scope=scope), torch.device("cpu"))
    shake(made)
    loss = made.backbone.window_loss(made.model, batch_of(made, list(range(ROWS)))).sum()
    named = lora_parameters(made.model)
    gradients = torch.autograd.grad(loss, [parameter for _, parameter in named])
    for (name, _), gradient in zip(named, gradients, strict=True):
        assert gradient.abs().max() > 1e-8, f"{name} never moves"


def test_training_moves_every_matrix_and_leaves_the_base(adapted: AdaptedBackbone) -> None:
    before = adapted.adapter()
    context, target, vital = windows(16)
    patients = np.arange(16)
    data = Windows(context, target, vital, patients, tuple(map(str, patients)))
    config = TrainConfig(batch=8, steps=2)
    train_adapter(adapted.model, adapted.backbone, data, config, learning_rate=1e-3, seed=0)
    after = adapted.adapter()
    assert weights_digest(adapted.model) == adapted.digest
    for name, matrix in after.tensors.items():
        assert not np.array_equal(matrix, before.tensors[name]), f"{name} did not move"
    load_into(before, adapted.model)


def test_the_adapter_comes_back_from_its_folder_bit_by_bit(
    adapted: AdaptedBackbone, tmp_path: Path
) -> None:
    adapter = adapted.adapter()
    save_peft_folder(adapter, tmp_path / "adapter")
    assert load_peft_folder(tmp_path / "adapter") == adapter
    plain = load_backbone(adapted.name)
    loaded = PeftModel.from_pretrained(plain.model, tmp_path / "adapter").eval()
    assert replace(adapted, model=loaded).adapter().tensors.keys() == adapter.tensors.keys()
    context, _, vital = windows(3)
    ours, theirs = (
        ModelForecaster(adapted.backbone, model).forecast(context, vital, HORIZON)
        for model in (adapted.model, loaded)
    )
    np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("case", ["nothing observed", "constant", "one value", "huge"])
def test_poor_contexts_have_finite_forecasts(adapted: AdaptedBackbone, case: str) -> None:
    context, target, vital = windows(4)
    context = {
        "nothing observed": np.full_like(context, np.nan),
        "constant": np.full_like(context, 98.0),
        "one value": np.where(np.arange(CONTEXT) == CONTEXT - 1, 98.0, np.nan),
        "huge": np.full_like(context, 299.0),
    }[case] * np.ones((4, 1), np.float32)
    context = context.astype(np.float32)
    forecast = ModelForecaster(adapted.backbone, adapted.model).forecast(context, vital, HORIZON)
    assert forecast.shape == (4, HORIZON, 9)
    assert np.isfinite(forecast).all()
    assert (np.diff(forecast, axis=2) >= 0).all()
    batch = adapted.backbone.collate(context, target, vital)
    assert torch.isfinite(adapted.backbone.window_loss(adapted.model, batch)).all()


def test_padding_on_the_left_changes_nothing(adapted: AdaptedBackbone) -> None:
    context, _, vital = windows(ROWS)
    context = context[:, 16:]
    padded = np.pad(context, ((0, 0), (16, 0)), constant_values=np.nan)
    forecaster = ModelForecaster(adapted.backbone, adapted.model)
    short, long = (forecaster.forecast(values, vital, HORIZON) for values in (context, padded))
    np.testing.assert_allclose(short, long, rtol=1e-3, atol=5e-3)


def test_a_forecast_is_the_same_each_time(adapted: AdaptedBackbone) -> None:
    context, _, vital = windows(3)
    forecaster = ModelForecaster(adapted.backbone, adapted.model)
    first = forecaster.forecast(context, vital, HORIZON)
    torch.rand(7)
    np.testing.assert_array_equal(forecaster.forecast(context, vital, HORIZON), first)


def test_the_family_tells_what_is_its_own(adapted: AdaptedBackbone) -> None:
    facts = adapted.backbone.facts(adapted.model)
    assert set(facts) == {"loss", "input", "forecast"}
    assert all(facts.values())
