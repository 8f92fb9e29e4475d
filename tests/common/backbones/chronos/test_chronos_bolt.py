from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from chronos import ChronosBoltPipeline

from common.backbones.base import ModelForecaster, weights_digest
from common.backbones.chronos.chronos_bolt import ChronosBolt
from common.backbones.loading import load_backbone
from common.backbones.lora import add_adapter, lora_parameters
from common.config.run_config import LoraConfig
from common.data.vitals import VITALS
from common.errors import BackboneError
from common.evaluation.evaluate import LEVELS
from tests.samples.backbones import damaged_copy, windows

BOLT = ChronosBolt()


@pytest.fixture
def model(tiny_bolt: Path) -> torch.nn.Module:
    return BOLT.build(tiny_bolt)


@pytest.fixture
def adapted(tiny_bolt: Path) -> torch.nn.Module:
    """With an adapter whose B is not zero, so that every matrix matters."""
    wrapped = add_adapter(BOLT.build(tiny_bolt), BOLT, LoraConfig(rank=2))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for _, parameter in lora_parameters(wrapped):
            parameter.normal_(0, 0.2, generator=generator)
    return wrapped


def test_the_loss_is_the_mean_pinball_in_the_contexts_scale(model: torch.nn.Module) -> None:
    context, target, vital = windows(5)
    batch = BOLT.collate(context, target, vital)
    losses = BOLT.window_loss(model, batch)
    raw = model(context=batch["context"]).quantile_preds  # [B, Q, H] in scale floors
    for row, loss in enumerate(losses.tolist()):
        floor, centre = VITALS[vital[row]].scale_floor, VITALS[vital[row]].clinical_offset
        scale = max(np.nanstd(context[row]), floor)
        total, count = 0.0, 0
        for step, value in enumerate(target[row].tolist()):
            if np.isnan(value):
                continue
            for level, quantile in zip(LEVELS, raw[row, :, step].tolist(), strict=True):
                error = value - (quantile * floor + centre)
                total += 2 * max(level * error, (level - 1) * error)
                count += 1
        assert loss == pytest.approx(total / count / scale, rel=1e-3)


def test_forecasts_equal_the_packages_own(tiny_bolt: Path, model: torch.nn.Module) -> None:
    context, _, vital = windows(16)
    pipeline = ChronosBoltPipeline.from_pretrained(tiny_bolt)
    theirs, _ = pipeline.predict_quantiles(
        torch.from_numpy(context), prediction_length=6, quantile_levels=list(LEVELS)
    )
    ours = ModelForecaster(BOLT, model).forecast(context, vital, 6)
    spread = np.nanstd(context, axis=1)
    above_floor = spread > np.array([VITALS[index].scale_floor for index in vital])
    assert above_floor.sum() > 8
    expected = np.sort(theirs.numpy(), axis=2)
    np.testing.assert_allclose(ours[above_floor], expected[above_floor], rtol=1e-4, atol=1e-3)


def test_a_constant_context_keeps_a_scale(model: torch.nn.Module) -> None:
    # The package alone divides by 1e-5: its interval is 1e-4 wide and a loss can reach 1e6.
    context = np.full((1, 48), 98.0, np.float32)
    spo2 = np.array([6])
    forecast = ModelForecaster(BOLT, model).forecast(context, spo2, 6)
    assert np.ptp(forecast) > 0.01 * VITALS[6].scale_floor
    loss = BOLT.window_loss(model, BOLT.collate(context, context[:, :6] - 3, spo2))
    assert float(loss) < 20


def test_levels_in_between_are_interpolated(model: torch.nn.Module) -> None:
    context, _, vital = windows()
    batch = BOLT.collate(context, None, vital)
    nine = BOLT.predict_quantiles(model, batch, 6, LEVELS)
    some = BOLT.predict_quantiles(model, batch, 6, (0.1, 0.25, 0.9))
    torch.testing.assert_close(some[..., 0], nine[..., 0])
    torch.testing.assert_close(some[..., 1], (nine[..., 1] + nine[..., 2]) / 2)
    torch.testing.assert_close(some[..., 2], nine[..., 8])
    with pytest.raises(BackboneError, match=r"0\.1 to 0\.9, got 0\.05"):
        BOLT.predict_quantiles(model, batch, 6, (0.05,))


def test_too_long_a_horizon_is_refused(model: torch.nn.Module) -> None:
    context, _, vital = windows(1)
    with pytest.raises(BackboneError, match="at most 12 steps"):
        ModelForecaster(BOLT, model).forecast(context, vital, 13)


def test_the_model_is_frozen(model: torch.nn.Module) -> None:
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert not model.training


def test_the_digest_names_the_frozen_tensors(tiny_bolt: Path, adapted: torch.nn.Module) -> None:
    plain = BOLT.build(tiny_bolt)
    digest = weights_digest(plain)
    assert digest == load_backbone(str(tiny_bolt)).digest == weights_digest(adapted)
    with torch.no_grad():
        next(plain.parameters()).view(-1)[0] += 1e-3
    assert weights_digest(plain) != digest


CONFIGS: dict[str, Callable[[dict[str, Any]], object]] = {
    "another family": lambda values: values.update(chronos_pipeline_class="Chronos2Pipeline"),
}


@pytest.mark.parametrize(
    "change",
    ["no config", "no weights", "truncated", "pickle", "half a tensor set", "another family"],
)
def test_a_damaged_folder_is_one_clear_line(tiny_bolt: Path, change: str) -> None:
    folder = damaged_copy(tiny_bolt, change, dropped="output_patch", configs=CONFIGS)
    with pytest.raises(BackboneError, match="weights") as error:
        load_backbone(str(folder))
    assert "\n" not in str(error.value)
