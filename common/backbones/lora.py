"""LoRA through PEFT: add an adapter to a frozen model, draw it, train it, merge it."""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property, lru_cache

import torch
from peft import LoraConfig as PeftLoraConfig
from peft import PeftModel, get_peft_model

from common.adapter.adapter import Adapter
from common.adapter.peft_io import from_peft_model, load_into
from common.backbones.base import Backbone
from common.backbones.loading import LoadedBackbone, load_backbone
from common.config.run_config import LoraConfig
from common.errors import AdapterError, BackboneError


@dataclass(frozen=True)
class AdaptedBackbone:
    """A frozen model with a LoRA adapter on it.

    Attributes:
        name: the backbone's name.
        digest: SHA-256 of its frozen tensors.
        backbone: its family.
        model: PEFT's wrapper, in eval mode; only A and B require gradients.
    """

    name: str
    digest: str
    backbone: Backbone
    model: PeftModel

    @cached_property
    def layout(self) -> Adapter:
        """An adapter of the settings, names and shapes of this one; its numbers mean nothing.

        Read once: a search of the model for its matrices takes as long as a small training step.
        """
        return self.adapter()

    def adapter(self) -> Adapter:
        """Return the current matrices."""
        return from_peft_model(self.model, self.name, self.digest)

    def fresh_adapter(self, seed: int) -> Adapter:
        """Initialise the matrices and return them: A as in PEFT (Kaiming uniform), B zero.

        The same seed gives the same bytes on every device. With B zero the model forecasts as the
        frozen one.
        """
        drawn = draw_matrices(self.model, seed)
        with torch.no_grad():
            for name, parameter in lora_parameters(self.model):
                parameter.copy_(drawn[name])
        return self.adapter()


@lru_cache(maxsize=4)
def adapted_backbone(name: str, config: LoraConfig, device: torch.device) -> AdaptedBackbone:
    """Load a backbone and add an adapter to it; the model is cached in the process.

    The sites of a simulation and its server share this model and load their own matrices into it
    before they use it; the frozen tensors never change. Each rank has a model of its own.

    Args:
        name: as in the settings.
        config: rank, alpha, dropout and scope.
        device: device of the model.
    """
    loaded = load_backbone(name)
    model = add_adapter(loaded.model.to(device), loaded.backbone, config)
    return AdaptedBackbone(loaded.name, loaded.digest, loaded.backbone, model)


def add_adapter(model: torch.nn.Module, backbone: Backbone, config: LoraConfig) -> PeftModel:
    """Add an adapter to a frozen model, in place, and return PEFT's wrapper in eval mode.

    Raises:
        BackboneError: no layer of the model is in the scope.
    """
    largest_rank(model, backbone, config.scope)
    settings = PeftLoraConfig(
        r=config.rank,
        lora_alpha=config.alpha,  # type: ignore[arg-type]  # whole in its annotation alone
        lora_dropout=config.dropout,
        target_modules=target_modules(backbone, config.scope),
        bias="none",
    )
    wrapped: PeftModel = wrap(model, settings).eval()
    return wrapped


def largest_rank(model: torch.nn.Module, backbone: Backbone, scope: str) -> int:
    """Return the smallest dimension of the layers in a scope, a value of `lora.scope`.

    B A has at most that rank: more would be trained and sent for nothing.

    Raises:
        BackboneError: no layer of the model is in the scope.
    """
    pattern = re.compile(target_modules(backbone, scope))
    sizes: list[int] = [
        min(layer.weight.shape)
        for name, layer in model.named_modules()
        if pattern.fullmatch(name) and isinstance(getattr(layer, "weight", None), torch.Tensor)
    ]
    if not sizes:
        raise BackboneError(f"no layer of this {backbone.family} matches lora.scope = {scope}")
    return min(sizes)


def target_modules(backbone: Backbone, scope: str) -> str:
    """Return the regular expression of the projections in a scope, a value of `lora.scope`."""
    if scope == "attention":
        return backbone.attention
    return f"({backbone.attention}|{backbone.feed_forward})"


def wrap(model: torch.nn.Module, settings: PeftLoraConfig) -> PeftModel:
    """Wrap a model in PEFT, in place, without a warning that the user cannot act on."""
    with warnings.catch_warnings():
        # PEFT reads a property of transformers by a deprecated name.
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)
        wrapped: PeftModel = get_peft_model(model, settings)
    return wrapped


def draw_matrices(model: torch.nn.Module, seed: int) -> dict[str, torch.Tensor]:
    """Draw A and zero B, by parameter name, on the CPU: generators differ between devices.

    Sites that train B alone each draw A themselves and must get the same one.
    """
    generator = torch.Generator("cpu").manual_seed(seed)
    drawn = {}
    for name, parameter in lora_parameters(model):
        matrix = torch.zeros(parameter.shape, device="cpu")
        if ".lora_A." in name:
            torch.nn.init.kaiming_uniform_(matrix, a=math.sqrt(5), generator=generator)
        drawn[name] = matrix
    return drawn


@contextmanager
def trained_parameters(
    model: torch.nn.Module, trained: str
) -> Iterator[list[tuple[str, torch.nn.Parameter]]]:
    """Yield the matrices to train, as `lora_parameters` does; the others require no gradient.

    Args:
        model: with an adapter; afterwards A and B require gradients as before.
        trained: ``ab``, or ``b`` (FFA-LoRA, Sun et al., arXiv 2403.12313): A stays as it is.
    """
    named = lora_parameters(model)
    frozen = [parameter for name, parameter in named if trained == "b" and ".lora_A." in name]
    try:
        for parameter in frozen:
            parameter.requires_grad_(False)
        yield [(name, parameter) for name, parameter in named if parameter.requires_grad]
    finally:
        for parameter in frozen:
            parameter.requires_grad_(True)


def lora_parameters(model: torch.nn.Module) -> list[tuple[str, torch.nn.Parameter]]:
    """Return the adapter's parameters sorted by name, which is the order of optimiser states."""
    return sorted(
        (name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad
    )


def merged_model(loaded: LoadedBackbone, adapter: Adapter) -> torch.nn.Module:
    """Return a copy of the frozen model with each W replaced by ``W + (alpha / r) B A``.

    The layers are found by the names of the matrices. The regular expression in the adapter's
    configuration is not used, since it may come from an untrusted source.

    Args:
        loaded: the backbone; it is not changed.
        adapter: made on this backbone.

    Raises:
        AdapterError: the digest, a layer or a shape differs.
    """
    if adapter.backbone_digest != loaded.digest:
        raise AdapterError(
            f"the adapter was trained on {adapter.backbone} ({adapter.backbone_digest[:12]}), "
            f"{loaded.name} is {loaded.digest[:12]}; use the weights that it was trained on"
        )
    settings = PeftLoraConfig(
        r=adapter.rank,
        lora_alpha=adapter.alpha,  # type: ignore[arg-type]  # whole in its annotation alone
        target_modules=list(adapter.modules),
        bias="none",
    )
    try:
        model = wrap(deepcopy(loaded.model), settings)
    except ValueError as error:
        raise AdapterError(f"the adapter does not fit {loaded.name}: {error}") from error
    load_into(adapter, model)
    merged: torch.nn.Module = model.merge_and_unload()
    return merged.requires_grad_(False).eval()
