"""Lag-Llama's folder of weights: found, frozen, and refused in one line where it is damaged."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from common.backbones.base import weights_digest
from common.backbones.lag_llama.lag_llama import LagLlama, network_of
from common.backbones.loading import load_backbone
from common.errors import BackboneError
from tests.samples.backbones import LAG_LLAMA_SIZES, damaged_copy

CONFIGS: dict[str, Callable[[dict[str, Any]], object]] = {
    "another width": lambda values: values.update(n_embd_per_head=6),
    "odd width": lambda values: values.update(n_embd_per_head=5),
    "falling lags": lambda values: values.update(lags_seq=[7, 0, 3]),
    "a size in words": lambda values: values.update(n_layer="two"),
    "an absurd size": lambda values: values.update(n_layer=10**7),
    "many layers": lambda values: values.update(n_layer=10**4),
    "another family": lambda values: values.update(model_type="t5"),
}


def test_the_model_is_frozen_and_found_by_its_folder(tiny_lag_llama: Path) -> None:
    state = torch.get_rng_state()
    loaded = load_backbone(str(tiny_lag_llama))
    assert torch.equal(torch.get_rng_state(), state)
    assert loaded.backbone.family == "lag-llama"
    assert not any(parameter.requires_grad for parameter in loaded.model.parameters())
    assert not loaded.model.training
    stored = load_file(tiny_lag_llama / "model.safetensors")
    assert loaded.digest == weights_digest(network_of(LAG_LLAMA_SIZES, stored, "stored"))


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ("no config", "holds no config.json"),
        ("truncated", "cannot be loaded as Lag-Llama"),
        ("pickle", "cannot be loaded as Lag-Llama"),
        ("half a tensor set", "lacks 6 of Lag-Llama's tensors, first param_proj.proj.0.bias"),
        ("a tensor too many", "holds 1 tensors .* first second_head"),
        ("another width", r"is config\.json that of these weights"),
        ("odd width", "n_embd_per_head should be even, got 5"),
        ("falling lags", r"lags_seq should be rising whole numbers, got \[7, 0, 3\]"),
        ("a size in words", "n_layer should be a whole number, got 'two'"),
        ("an absurd size", "n_layer should be a whole number"),
        ("many layers", "n_layer should be at most 256"),
        ("another family", r"not a Lag-Llama model \(model_type t5\)"),
    ],
)
def test_a_damaged_folder_is_one_clear_line(tiny_lag_llama: Path, change: str, match: str) -> None:
    folder = damaged_copy(tiny_lag_llama, change, dropped="param_proj", configs=CONFIGS)
    with pytest.raises(BackboneError, match=match) as error:
        LagLlama().build(folder)
    assert "\n" not in str(error.value)
    assert str(folder) in str(error.value)
