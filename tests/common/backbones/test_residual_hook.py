"""A model with a residual against the same model with the residual folded into its adapter."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from common.adapter.adapter import Adapter, tensor_name
from common.adapter.peft_io import load_into
from common.adapter.residual import fold_residual
from common.backbones.base import weights_digest
from common.backbones.catalog import CATALOG
from common.backbones.loading import load_backbone
from common.backbones.lora import AdaptedBackbone, add_adapter, lora_parameters
from common.backbones.residual_hook import residual_added
from common.config.run_config import LoraConfig
from common.errors import AdapterError
from tests.samples.backbones import windows

LEVELS = (0.1, 0.5, 0.9)


def adapt(folder: Path, rank: int, alpha: float) -> AdaptedBackbone:
    loaded = load_backbone(str(folder))
    model = add_adapter(loaded.model, loaded.backbone, LoraConfig(rank=rank, alpha=alpha))
    return AdaptedBackbone(loaded.name, loaded.digest, loaded.backbone, model)


def filled(like: Adapter, rank: int, alpha: float, seed: int, size: float = 0.3) -> Adapter:
    """A random adapter on the same layers."""
    random = np.random.default_rng(seed)
    tensors = {}
    for module in like.modules:
        a, b = like.pair(module)
        for factor, shape in (("A", (rank, a.shape[1])), ("B", (b.shape[0], rank))):
            drawn = size * random.normal(size=shape)
            tensors[tensor_name(module, factor)] = drawn.astype(np.float32)
    return Adapter(tensors, rank, alpha, like.target_modules, like.backbone, like.backbone_digest)


@pytest.fixture
def adapted(tiny_bolt: Path) -> AdaptedBackbone:
    made = adapt(tiny_bolt, rank=2, alpha=6.0)
    load_into(filled(made.adapter(), 2, 6.0, 0), made.model)
    return made


def forecast(adapted: AdaptedBackbone) -> torch.Tensor:
    random = np.random.default_rng(1)
    context = 80 + random.normal(size=(3, 24)).cumsum(axis=1).astype(np.float32)
    batch = adapted.backbone.collate(context.astype(np.float32), None, np.zeros(3, np.int64))
    with torch.inference_mode():
        return adapted.backbone.predict_quantiles(adapted.model, batch, 4, LEVELS)


def test_forecasts_as_the_folded_adapter(tiny_bolt: Path, adapted: AdaptedBackbone) -> None:
    trained = adapted.adapter()
    residual = filled(trained, 3, 3.0, 5)
    without = forecast(adapted)
    whole = fold_residual(trained, residual)
    other = adapt(tiny_bolt, rank=5, alpha=5.0)
    load_into(whole, other.model)
    with residual_added(adapted.model, residual):
        within = forecast(adapted)
    torch.testing.assert_close(within, forecast(other), rtol=1e-5, atol=1e-4)
    assert not torch.allclose(within, without, rtol=1e-3)


def test_the_base_is_untouched_and_the_residual_is_removed(adapted: AdaptedBackbone) -> None:
    residual = filled(adapted.adapter(), 3, 3.0, 5)
    before, parameters = forecast(adapted), [name for name, _ in lora_parameters(adapted.model)]
    with pytest.raises(ValueError, match="stop"), residual_added(adapted.model, residual):
        assert weights_digest(adapted.model) == adapted.digest
        assert [name for name, _ in lora_parameters(adapted.model)] == parameters
        assert not torch.equal(forecast(adapted), before)
        raise ValueError("stop")
    assert torch.equal(forecast(adapted), before)
    assert weights_digest(adapted.model) == adapted.digest


def test_gradients_are_those_of_the_folded_model(tiny_bolt: Path, adapted: AdaptedBackbone) -> None:
    """The layers below a layer train through its residual too."""
    trained = adapted.adapter()
    residual = filled(trained, 3, 3.0, 5)
    other = adapt(tiny_bolt, rank=5, alpha=5.0)
    load_into(fold_residual(trained, residual), other.model)
    random = np.random.default_rng(2)
    values = (80 + random.normal(size=(4, 28)).cumsum(axis=1)).astype(np.float32)
    batch = adapted.backbone.collate(values[:, :24], values[:, 24:], np.zeros(4, np.int64))
    with residual_added(adapted.model, residual):
        adapted.backbone.window_loss(adapted.model, batch).sum().backward()  # type: ignore[no-untyped-call]
    other.backbone.window_loss(other.model, batch).sum().backward()  # type: ignore[no-untyped-call]
    expected = dict(lora_parameters(other.model))
    for name, parameter in lora_parameters(adapted.model):
        if "lora_A" in name:
            assert parameter.grad is not None
            grad = expected[name].grad
            assert grad is not None
            torch.testing.assert_close(parameter.grad, grad[:2], rtol=1e-3, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, entry in CATALOG.items() if entry.packaged])
def test_every_family_adds_a_residual(name: str) -> None:
    if CATALOG[name].missing_extra:
        pytest.skip(f"{name} needs the extra {CATALOG[name].missing_extra}")
    loaded, other = load_backbone(name), load_backbone(name)
    scope = LoraConfig(rank=2, alpha=2.0, scope="attention+feed-forward")
    model = add_adapter(loaded.model, loaded.backbone, scope)
    fresh = AdaptedBackbone(name, loaded.digest, loaded.backbone, model).adapter()
    trained, residual = filled(fresh, 2, 2.0, 0, 0.1), filled(fresh, 3, 3.0, 1, 0.1)
    load_into(trained, model)
    whole = add_adapter(other.model, other.backbone, scope.replace(rank=5, alpha=5.0))
    load_into(fold_residual(trained, residual), whole)
    batch = loaded.backbone.collate(*windows())
    with torch.inference_mode():
        without = loaded.backbone.window_loss(model, batch)
        expected = other.backbone.window_loss(whole, batch)
        with residual_added(model, residual):
            within = loaded.backbone.window_loss(model, batch)
    torch.testing.assert_close(within, expected, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(within, without, rtol=1e-3)


def test_no_residual_changes_nothing(adapted: AdaptedBackbone) -> None:
    before = forecast(adapted)
    with residual_added(adapted.model, None):
        assert torch.equal(forecast(adapted), before)


def test_a_residual_of_other_layers_or_sizes_is_refused_and_leaves_no_hook(
    adapted: AdaptedBackbone,
) -> None:
    residual = filled(adapted.adapter(), 3, 3.0, 5)
    before = forecast(adapted)
    module = residual.modules[-1]
    strange = dict(residual.tensors)
    for factor in "AB":
        strange[tensor_name("elsewhere.q", factor)] = strange.pop(tensor_name(module, factor))
    wide = dict(residual.tensors)
    wide[tensor_name(module, "A")] = np.zeros((3, 99), np.float32)
    for tensors, match in ((strange, "'elsewhere.q', the model has no"), (wide, "has 99 to 16")):
        wrong = Adapter(tensors, 3, 3.0, "q", "b", residual.backbone_digest)
        with pytest.raises(AdapterError, match=match), residual_added(adapted.model, wrong):
            pass
        assert torch.equal(forecast(adapted), before)
