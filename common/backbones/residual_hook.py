"""A model that computes the carried part beside its adapter: ``W x + U V x + (alpha / r) B A x``.

The part is added to the output of each frozen layer by a hook. The weights stay as they are, and
with them the digest by which sites compare their backbones; nothing of it is trained.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from peft.tuners.lora import LoraLayer
from torch.nn.functional import linear

from common.adapter.adapter import Adapter, shown, tensor_name
from common.errors import AdapterError


@contextmanager
def carrying(model: torch.nn.Module, carried: Adapter | None) -> Iterator[None]:
    """Let a model compute a carried part for as long as the block lasts.

    Args:
        model: PEFT's wrapper with a LoRA adapter on the layers of the part, on its device.
        carried: the part; None changes nothing.

    Raises:
        AdapterError: where a layer of the part has no adapter in the model, or has another size.
    """
    if carried is None:
        yield
        return
    layers = _layers(model)
    handles: list[torch.utils.hooks.RemovableHandle] = []
    try:
        for module in carried.modules:
            base = _base_layer(layers, module)
            hook = _adding(carried, module, base)
            handles.append(base.register_forward_hook(hook))
        yield
    finally:
        for handle in handles:
            handle.remove()


def _layers(model: torch.nn.Module) -> dict[str, LoraLayer]:
    """The layers with an adapter, by PEFT's name of their A."""
    return {
        f"{name}.lora_A.weight": layer
        for name, layer in model.named_modules()
        if isinstance(layer, LoraLayer)
    }


def _base_layer(layers: dict[str, LoraLayer], module: str) -> torch.nn.Module:
    layer = layers.get(tensor_name(module, "A"))
    if layer is None:
        raise AdapterError(
            f"the carried part has the layer {shown(module)}, the model has no adapter there; "
            "use the backbone and the lora.scope of the run"
        )
    base: torch.nn.Module = layer.get_base_layer()
    return base


def _adding(carried: Adapter, module: str, base: torch.nn.Module) -> Any:
    """The hook of one layer."""
    weight: Any = base.weight
    v, u = (torch.from_numpy(matrix.copy()).to(weight.device) for matrix in carried.pair(module))
    if (u.shape[0], v.shape[1]) != tuple(weight.shape):
        raise AdapterError(
            f"the carried part has {v.shape[1]} to {u.shape[0]} for {shown(module)}, the model "
            f"has {weight.shape[1]} to {weight.shape[0]}; use the run's backbone"
        )

    def hook(_: torch.nn.Module, inputs: tuple[torch.Tensor], output: torch.Tensor) -> torch.Tensor:
        # Not under no_grad: what lies below this layer trains through the carried part too.
        return output + linear(linear(inputs[0], v), u)

    return hook
