from __future__ import annotations

import math

import pytest
import torch

from common.backbones.lag_llama.lag_llama import LagLlama, tensor_shapes
from common.backbones.lag_llama.network import LagLlamaNetwork
from common.backbones.lag_llama.sizes import PUBLISHED_LAGS, LagLlamaSizes
from common.backbones.lora import add_adapter, lora_parameters
from common.config.run_config import LoraConfig


def test_the_published_sizes_have_the_published_tensors() -> None:
    shapes = tensor_shapes(LagLlamaSizes())
    assert len(PUBLISHED_LAGS) == 84
    assert len(shapes) == 73
    assert sum(math.prod(shape) for shape in shapes.values()) == 2_449_299
    assert shapes["transformer.wte.weight"] == (144, 92)
    assert shapes["transformer.h.7.attn.kv_proj.weight"] == (288, 144)
    assert shapes["transformer.h.7.mlp.c_proj.weight"] == (144, 512)
    assert shapes["param_proj.proj.2.weight"] == (1, 144)


@pytest.mark.parametrize(
    ("scope", "expected"), [("attention", 64_512), ("attention+feed-forward", 190_464)]
)
def test_the_published_sizes_have_the_published_adapter(scope: str, expected: int) -> None:
    with torch.device("meta"):
        network = LagLlamaNetwork(LagLlamaSizes())
        wrapped = add_adapter(network, LagLlama(), LoraConfig(rank=8, scope=scope))
    assert sum(parameter.numel() for _, parameter in lora_parameters(wrapped)) == expected
