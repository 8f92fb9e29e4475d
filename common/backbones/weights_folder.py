"""Reader of a folder of weights in the published layout: config.json and model.safetensors.

torch is imported only when a model is loaded.
"""

from __future__ import annotations

import json
from collections.abc import Set
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common.errors import BackboneError

if TYPE_CHECKING:
    import torch


def read_weights_config(weights: Path) -> dict[str, Any]:
    """Read a folder's config.json.

    Raises:
        BackboneError: it is absent or cannot be read.
    """
    path = weights / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BackboneError(
            f"{weights} holds no config.json; give a folder of weights as on the model hub"
        ) from None
    except (OSError, ValueError) as error:
        raise BackboneError(f"{path} cannot be read: {error}") from error
    if not isinstance(config, dict):
        raise BackboneError(f"{path} cannot be read: it holds no JSON object")
    return config


def load_pretrained(
    kind: str, model_class: Any, weights: Path, tied: Set[str] = frozenset()
) -> torch.nn.Module:
    """Load a model of transformers from safetensors only, frozen and in eval mode.

    Args:
        kind: name of the family in messages.
        model_class: the class, with transformers' `from_pretrained`.
        weights: the folder.
        tied: tensors that the file may lack, since they are tied to others.

    Raises:
        BackboneError: the file is absent, damaged, incomplete or of other shapes.
    """
    import torch
    from safetensors import SafetensorError, safe_open
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    damaged = (OSError, SafetensorError, RuntimeError)
    misfit = (ValueError, TypeError, KeyError, AssertionError)  # contradictory settings
    try:
        with safe_open(weights / "model.safetensors", framework="pt") as file:
            stored = set(file.keys())
        model: torch.nn.Module = model_class.from_pretrained(
            weights, use_safetensors=True, local_files_only=True, dtype=torch.float32
        )
    except (*damaged, *misfit) as error:
        raise BackboneError(f"{weights} cannot be loaded as {kind}: {error}") from error
    # transformers would fill a missing tensor with random numbers and only log it.
    missing = set(model.state_dict()) - stored - tied
    if missing:
        raise BackboneError(
            f"{weights / 'model.safetensors'} lacks {len(missing)} tensors, first "
            f"{min(missing)}; fetch the weights again"
        )
    return model.requires_grad_(False).eval()
