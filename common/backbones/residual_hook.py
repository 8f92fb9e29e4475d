"""Forward hooks that add an adapter's residual to a model: ``W x + U V x + (alpha / r) B A x``.

Each frozen layer's output gets its share by a hook. So the weights do not change, nor the digest by
which sites compare their backbones, and the residual is not trained.
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
def residual_added(model: torch.nn.Module, residual: Adapter | None) -> Iterator[None]:
    """Add a residual to a model's layers within the block.

    Args:
        model: PEFT's wrapper with a LoRA adapter on the residual's layers, on its device.
        residual: the residual (`common.adapter.residual`); None changes nothing.

    Raises:
        AdapterError: where a layer of the residual has no adapter in the model, or another size.
    """
    if residual is None:
        yield
        return
    layers = _layers(model)
    handles: list[torch.utils.hooks.RemovableHandle] = []
    try:
        for module in residual.modules:
            base = _base_layer(layers, module)
            hook = _forward_hook(residual, module, base)
            handles.append(base.register_forward_hook(hook))
        yield
    finally:
        for handle in handles:
            handle.remove()


def _layers(model: torch.nn.Module) -> dict[str, LoraLayer]:
    """Layers with an adapter, by PEFT's name of their A."""
    return {
        f"{name}.lora_A.weight": layer
        for name, layer in model.named_modules()
        if isinstance(layer, LoraLayer)
    }


def _base_layer(layers: dict[str, LoraLayer], module: str) -> torch.nn.Module:
    layer = layers.get(tensor_name(module, "A"))
    if layer is None:
        raise AdapterError(
            f"the residual has the layer {shown(module)}, the model has no adapter there; "
            "use the backbone and the lora.scope of the run"
        )
    base: torch.nn.Module = layer.get_base_layer()
    return base


def _forward_hook(residual: Adapter, module: str, base: torch.nn.Module) -> Any:
    """Return the forward hook of one layer."""
    weight: Any = base.weight
    v, u = (torch.from_numpy(matrix.copy()).to(weight.device) for matrix in residual.pair(module))
    if (u.shape[0], v.shape[1]) != tuple(weight.shape):
        raise AdapterError(
            f"the residual has {v.shape[1]} to {u.shape[0]} for {shown(module)}, the model has "
            f"{weight.shape[1]} to {weight.shape[0]}; use the run's backbone"
        )

    def hook(_: torch.nn.Module, inputs: tuple[torch.Tensor], output: torch.Tensor) -> torch.Tensor:
        # Not under no_grad: the layers below this one train through the residual too.
        return output + linear(linear(inputs[0], v), u)

    return hook
