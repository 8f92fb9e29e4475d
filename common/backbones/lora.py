"""LoRA through PEFT: small trainable pairs of matrices beside the frozen projections.

The adapter folded into the weights: one model of the backbone's own size and speed.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from functools import lru_cache

import torch
from peft import LoraConfig as PeftLoraConfig
from peft import PeftModel, get_peft_model

from common.adapter.adapter import Adapter
from common.adapter.peft_io import from_peft_model, load_into
from common.backbones.base import Backbone
from common.backbones.loading import LoadedBackbone, load_backbone
from common.config.run_config import LoraConfig
from common.errors import AdapterError


def merged_model(loaded: LoadedBackbone, adapter: Adapter) -> torch.nn.Module:
    """Return a copy of the frozen model with ``W + (alpha / r) B A`` in the place of each W.

    The layers are found by the names of the matrices, not by the adapter's regular expression,
    which may be a stranger's and is never run here.

    Args:
        loaded: the backbone; it is not changed.
        adapter: made on this backbone.

    Raises:
        AdapterError: where the digest, a layer or a shape is another one.
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

    def adapter(self) -> Adapter:
        """Return the matrices as they are now."""
        return from_peft_model(self.model, self.name, self.digest)

    def fresh_adapter(self, seed: int) -> Adapter:
        """Draw the matrices anew and return them: A as in PEFT (Kaiming uniform), B zero.

        The same seed gives the same bytes, whatever device the model is on; the model forecasts as
        the frozen one does.
        """
        drawn = draw_matrices(self.model, seed)
        with torch.no_grad():
            for name, parameter in lora_parameters(self.model):
                parameter.copy_(drawn[name])
        return self.adapter()


@lru_cache(maxsize=4)
def adapted_backbone(name: str, config: LoraConfig, device: torch.device) -> AdaptedBackbone:
    """Load a backbone and put an adapter on it, once a process.

    The sites of a simulation and its server share the one model and put their own matrices into it
    before they use it; the frozen tensors are never changed. Sites of other ranks have models of
    their own.

    Args:
        name: as in the settings.
        config: rank, alpha, dropout and scope.
        device: where the model is to be.
    """
    loaded = load_backbone(name)
    model = add_adapter(loaded.model.to(device), loaded.backbone, config)
    return AdaptedBackbone(loaded.name, loaded.digest, loaded.backbone, model)


def add_adapter(model: torch.nn.Module, backbone: Backbone, config: LoraConfig) -> PeftModel:
    """Put an adapter on a frozen model, in place, and return PEFT's wrapper in eval mode."""
    settings = PeftLoraConfig(
        r=config.rank,
        lora_alpha=config.alpha,  # type: ignore[arg-type]  # whole in its annotation alone
        lora_dropout=config.dropout,
        target_modules=backbone.lora_targets(config.scope),
        bias="none",
    )
    wrapped: PeftModel = wrap(model, settings).eval()
    return wrapped


def wrap(model: torch.nn.Module, settings: PeftLoraConfig) -> PeftModel:
    """Put PEFT's wrapper around a model, in place, without a warning that is not its user's."""
    with warnings.catch_warnings():
        # PEFT asks transformers for a property by a name that is going out of use.
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)
        wrapped: PeftModel = get_peft_model(model, settings)
    return wrapped


def draw_matrices(model: torch.nn.Module, seed: int) -> dict[str, torch.Tensor]:
    """Draw A and B by the parameters' names, on the CPU: other devices have other generators.

    Sites that train B alone each draw A for themselves and must come to the same one.
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
    """Give the matrices to be trained, as `lora_parameters` does; the others take no gradient.

    Args:
        model: with an adapter on it. Afterwards A and B require gradients as before.
        trained: ``ab``, or ``b`` (FFA-LoRA, Sun et al., arXiv 2403.12313): A stays as it is.
    """
    frozen = [
        parameter
        for name, parameter in lora_parameters(model)
        if trained == "b" and ".lora_A." in name
    ]
    try:
        for parameter in frozen:
            parameter.requires_grad_(False)
        yield lora_parameters(model)
    finally:
        for parameter in frozen:
            parameter.requires_grad_(True)


def lora_parameters(model: torch.nn.Module) -> list[tuple[str, torch.nn.Parameter]]:
    """Return the adapter's parameters by name, sorted: the order of every optimiser state."""
    return sorted(
        (name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad
    )
