from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from chronos.chronos_bolt import ChronosBoltModelForForecasting
from peft import PeftModel
from peft.tuners.lora import LoraLayer

from common.adapter.peft_io import load_into, save_peft_folder
from common.backbones.chronos.chronos_bolt import ChronosBolt
from common.backbones.lora import (
    AdaptedBackbone,
    adapted_backbone,
    add_adapter,
    draw_matrices,
    lora_parameters,
    trained_parameters,
)
from common.config.run_config import LoraConfig

CPU = torch.device("cpu")


def adapt(folder: Path, **settings: object) -> AdaptedBackbone:
    adapted_backbone.cache_clear()
    return adapted_backbone(str(folder), LoraConfig(**settings), CPU)  # type: ignore[arg-type]


def test_dead_projections_take_no_adapter(tiny_bolt: Path) -> None:
    modules = adapt(tiny_bolt, rank=2).adapter().modules
    assert modules
    dead = re.compile(r"decoder.*SelfAttention\.[qk]$")
    assert not [name for name in modules if dead.search(name)]
    assert [name for name in modules if re.search(r"decoder.*EncDecAttention\.q$", name)]


def test_the_feed_forward_scope_adds_to_the_attention(tiny_bolt: Path) -> None:
    attention = set(adapt(tiny_bolt, rank=2).adapter().modules)
    both = set(adapt(tiny_bolt, rank=2, scope="attention+feed-forward").adapter().modules)
    assert attention < both
    assert all("DenseReluDense" in name for name in both - attention)


def test_a_fresh_adapter_comes_from_its_seed_alone(tiny_bolt: Path) -> None:
    adapted = adapt(tiny_bolt, rank=2)
    first = adapted.fresh_adapter(5)
    torch.rand(3)
    assert adapted.fresh_adapter(5) == first
    assert adapted.fresh_adapter(6) != first
    assert all(not b.any() for _, b in (first.pair(module) for module in first.modules))


def test_the_matrices_are_drawn_on_the_cpu_wherever_the_model_is(tiny_bolt: Path) -> None:
    adapted = adapt(tiny_bolt, rank=2)
    expected = adapted.fresh_adapter(5)
    # The device without numbers: what is drawn by way of the model would be lost there.
    drawn = draw_matrices(adapted.model.to("meta"), 5)
    assert len(drawn) == len(expected.tensors)
    for name, matrix in drawn.items():
        assert matrix.device == CPU
        np.testing.assert_array_equal(
            matrix.numpy(), expected.tensors[name.replace(".default.", ".")]
        )


def test_a_fresh_adapter_is_drawn_as_peft_draws(tiny_bolt: Path) -> None:
    adapted = adapt(tiny_bolt, rank=2)
    ours = adapted.fresh_adapter(5)
    torch.manual_seed(5)
    for _, module in sorted(adapted.model.named_modules()):
        if isinstance(module, LoraLayer):
            module.reset_lora_parameters("default", True)  # type: ignore[no-untyped-call]
    assert adapted.adapter() == ours


def test_b_alone_is_trained_for_a_while_only(tiny_bolt: Path) -> None:
    model = adapt(tiny_bolt, rank=2).model
    both = [name for name, _ in lora_parameters(model)]
    with trained_parameters(model, "ab") as named:
        assert [name for name, _ in named] == both
    with pytest.raises(ZeroDivisionError), trained_parameters(model, "b") as named:
        assert [name for name, _ in named] == [name for name in both if ".lora_B." in name]
        raise ZeroDivisionError
    assert [name for name, _ in lora_parameters(model)] == both


def test_drawing_an_adapter_leaves_the_callers_random_numbers_alone(tiny_bolt: Path) -> None:
    adapted = adapt(tiny_bolt, rank=2)
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    adapted.fresh_adapter(5)
    assert torch.equal(torch.rand(3), expected)


def test_only_the_matrices_require_gradients(tiny_bolt: Path) -> None:
    model = adapt(tiny_bolt, rank=2).model
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert trained
    assert all(".lora_" in name for name in trained)


def test_dropout_and_scale_reach_the_layers(tiny_bolt: Path) -> None:
    model = adapt(tiny_bolt, rank=4, alpha=2.0, dropout=0.25).model
    layers = [module for module in model.modules() if isinstance(module, LoraLayer)]
    assert {layer.scaling["default"] for layer in layers} == {0.5}
    assert {layer.lora_dropout["default"].p for layer in layers} == {0.25}


def test_peft_alone_loads_the_folder_and_forecasts_the_same(
    tiny_bolt: Path, tmp_path: Path
) -> None:
    adapted = adapt(tiny_bolt, rank=2)
    adapter = adapted.fresh_adapter(0)
    with torch.no_grad():
        for _, parameter in adapted.model.named_parameters():
            if parameter.requires_grad:
                parameter.normal_(0, 0.2, generator=torch.Generator().manual_seed(2))
    adapter = adapted.adapter()
    save_peft_folder(adapter, tmp_path / "adapter")
    base = ChronosBoltModelForForecasting.from_pretrained(tiny_bolt)
    theirs = PeftModel.from_pretrained(base, tmp_path / "adapter").eval()
    context = torch.randn(4, 48, generator=torch.Generator().manual_seed(3)).cumsum(dim=1) * 5
    with torch.inference_mode():
        expected = theirs(context=context).quantile_preds
        ours = adapted.model(context=context).quantile_preds
        bare = base.get_submodule("encoder")
    assert bare is not None
    torch.testing.assert_close(ours, expected)


def test_two_models_with_one_adapter_agree(tiny_bolt: Path) -> None:
    first = adapt(tiny_bolt, rank=2)
    adapter = first.fresh_adapter(9)
    bolt = ChronosBolt()
    other = add_adapter(bolt.build(tiny_bolt), bolt, LoraConfig(rank=2))
    load_into(adapter, other)
    again = AdaptedBackbone(first.name, first.digest, bolt, other).adapter()
    assert again == adapter


@pytest.fixture(autouse=True)
def _forget_models() -> None:
    adapted_backbone.cache_clear()
