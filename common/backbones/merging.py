"""The adapter folded into the weights: one model of the backbone's own size and speed."""

from __future__ import annotations

from copy import deepcopy

import torch
from peft import LoraConfig

from common.adapter.adapter import Adapter
from common.adapter.peft_io import load_into
from common.backbones.loading import LoadedBackbone
from common.backbones.lora import wrap
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
    settings = LoraConfig(
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
