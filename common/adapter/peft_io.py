"""Conversion of an `Adapter` to and from PEFT: a model, or the folder that `PeftModel` loads.

torch and PEFT take seconds to import; only the functions that use a model import them. Folders are
written and read without either.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as load_safetensors
from safetensors.numpy import save as save_safetensors

from common.adapter.adapter import Adapter, Matrix, check_same_layout, shown
from common.errors import AdapterError
from common.files.atomic_io import atomic_folder

if TYPE_CHECKING:
    import torch
    from peft import PeftModel

PEFT_CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"
ORIGIN_FILE = "fedvitals.json"
"""Holds the backbone's name and digest; PEFT warns about unknown keys in its own configuration."""
CARD_FILE = "README.md"


def to_state_dict(adapter: Adapter) -> dict[str, torch.Tensor]:
    """Return copies of the matrices as torch tensors on the CPU, by PEFT's names."""
    import torch

    return {name: torch.from_numpy(tensor.copy()) for name, tensor in adapter.tensors.items()}


def from_peft_model(model: PeftModel, backbone: str, digest: str) -> Adapter:
    """Read the adapter out of a model that `get_peft_model` made.

    Args:
        model: the model; its adapter is the one called ``default``.
        backbone: the backbone's name.
        digest: the backbone's digest.

    Raises:
        AdapterError: where the model's adapter is not plain LoRA of one rank.
    """
    settings = _lora_settings(model.peft_config["default"].to_dict(), "the model's LoraConfig")
    tensors = {
        name: parameter.detach().float().cpu().numpy()
        for name, parameter in _matrices(model).items()
    }
    return Adapter(tensors, backbone=backbone, backbone_digest=digest, **settings)


def load_into(adapter: Adapter, model: PeftModel) -> None:
    """Load the adapter's matrices into a model, in place of its own.

    Args:
        adapter: what to load.
        model: a model of the same backbone, made by `get_peft_model` with the same LoRA settings.

    Raises:
        AdapterError: where rank, alpha, a name or a shape differs; the model is then unchanged.
    """
    import torch

    settings = _lora_settings(model.peft_config["default"].to_dict(), "the model's LoraConfig")
    for key, value in (("rank", adapter.rank), ("alpha", adapter.alpha)):
        if settings[key] != value:
            raise AdapterError(
                f"the adapter has {key} {value:g}, the model was made with {settings[key]:g}; "
                f"make it with lora.{key} = {value:g}"
            )
    matrices = _matrices(model)
    check_same_layout(adapter.tensors, matrices, "the adapter", "the model")
    with torch.no_grad():
        for name, tensor in to_state_dict(adapter).items():
            matrices[name].copy_(tensor)


def _matrices(model: PeftModel) -> dict[str, torch.nn.Parameter]:
    """Return A and B by the names that they have in PEFT's files.

    PEFT's own `get_peft_model_state_dict` takes ten milliseconds, more than a step of a small
    model. A test compares the two.
    """
    return {
        name.replace(".default.weight", ".weight"): parameter
        for name, parameter in model.named_parameters()
        if ".lora_A.default." in name or ".lora_B.default." in name
    }


def save_peft_folder(
    adapter: Adapter,
    folder: Path,
    *,
    model_card: str | None = None,
    settings: Mapping[str, Any] | None = None,
) -> None:
    """Write the adapter atomically as a folder that `PeftModel.from_pretrained` loads.

    Args:
        adapter: the adapter; equal adapters give equal bytes.
        folder: the folder to create or to replace.
        model_card: text of its README.md; None for no README.md.
        settings: the settings of its training, and `step_minutes`, as JSON values.

    Raises:
        AdapterError: where the folder cannot be written.
    """
    alpha = int(adapter.alpha) if adapter.alpha.is_integer() else adapter.alpha
    config = {
        "auto_mapping": None,
        "base_model_name_or_path": adapter.backbone,
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
        "init_lora_weights": True,
        "lora_alpha": alpha,
        "lora_dropout": adapter.dropout,
        "modules_to_save": None,
        "peft_type": "LORA",
        "r": adapter.rank,
        "revision": None,
        "target_modules": adapter.target_modules,
        "task_type": None,
        "use_dora": False,
        "use_rslora": False,
    }
    origin = {
        "backbone": adapter.backbone,
        "backbone_digest": adapter.backbone_digest,
        "settings": dict(settings or {}),
    }
    weights = save_safetensors(dict(adapter.tensors), metadata={"format": "pt"})
    try:
        with atomic_folder(folder) as partial:
            _write_json(partial / PEFT_CONFIG_FILE, config)
            _write_json(partial / ORIGIN_FILE, origin)
            (partial / WEIGHTS_FILE).write_bytes(weights)
            if model_card is not None:
                (partial / CARD_FILE).write_bytes(model_card.encode())
    except OSError as error:
        raise AdapterError(
            f"{folder} cannot be written: {error}; free space or choose another folder"
        ) from error


def load_peft_folder(
    folder: Path, *, backbone: str | None = None, backbone_digest: str | None = None
) -> Adapter:
    """Read a folder written by `save_peft_folder`, or by PEFT itself.

    Args:
        folder: the folder.
        backbone: the backbone's name, required where the folder does not contain it.
        backbone_digest: the backbone's digest, required for a folder written by PEFT; where the
            folder contains one they must agree.

    Raises:
        AdapterError: where a file is absent or damaged, or the adapter is not plain LoRA.
    """
    config = _read_json(folder / PEFT_CONFIG_FILE)
    settings = _lora_settings(config, str(folder / PEFT_CONFIG_FILE))
    origin = _read_json(folder / ORIGIN_FILE) if (folder / ORIGIN_FILE).exists() else {}
    name = backbone or origin.get("backbone") or config.get("base_model_name_or_path")
    recorded = origin.get("backbone_digest")
    digest = backbone_digest or recorded
    if not name or not digest:
        raise AdapterError(
            f"{folder} does not contain its backbone's {'name' if not name else 'digest'}; "
            "name the backbone that the adapter was trained on"
        )
    if recorded is not None and recorded != digest:
        raise AdapterError(
            f"{folder} was trained on the backbone {recorded!s:.12}, expected {digest:.12}; "
            "use the backbone weights that the adapter was trained on"
        )
    weights = _read_weights(folder / WEIGHTS_FILE)
    return Adapter(weights, backbone=name, backbone_digest=digest, **settings)


def read_settings(folder: Path) -> dict[str, Any]:
    """Return the training settings of a released adapter; empty where it has none."""
    origin = _read_json(folder / ORIGIN_FILE) if (folder / ORIGIN_FILE).exists() else {}
    settings = origin.get("settings", {})
    return dict(settings) if isinstance(settings, dict) else {}


# Entries of a LoraConfig that are read here or do not change the meaning of the matrices. Any other
# entry that is set (use_dora, use_rslora, rank_pattern, modules_to_save …) does.
_PLAIN_ENTRIES = frozenset(
    {
        "auto_mapping",
        "base_model_name_or_path",
        "bias",
        "inference_mode",
        "init_lora_weights",
        "lora_alpha",
        "lora_dropout",
        "megatron_core",
        "peft_type",
        "peft_version",
        "qalora_group_size",
        "r",
        "revision",
        "runtime_config",
        "target_modules",
        "task_type",
    }
)


def _lora_settings(config: Mapping[str, Any], source: str) -> dict[str, Any]:
    """Check that a LoraConfig is plain LoRA; return its rank, alpha, targets and dropout."""
    special = sorted(key for key in config if key not in _PLAIN_ENTRIES and config[key])
    if config.get("peft_type") != "LORA":
        special.append("peft_type")
    if config.get("bias", "none") != "none":
        special.append("bias")
    if config.get("init_lora_weights", True) not in (True, False, "gaussian"):
        special.append("init_lora_weights")  # PiSSA and similar change the backbone
    if special:
        key = special[0]
        raise AdapterError(
            f"{source} has {key} = {shown(config.get(key))}; only plain LoRA is supported, "
            f"train without it"
        )
    return {
        "rank": config.get("r"),
        "alpha": config.get("lora_alpha"),
        "target_modules": _as_pattern(config.get("target_modules")),
        "dropout": config.get("lora_dropout", 0.0),
    }


def _as_pattern(targets: object) -> object:
    """PEFT's list of targets (each the end of a module's name) as one regular expression."""
    if isinstance(targets, Iterable) and not isinstance(targets, str):
        endings = "|".join(re.escape(target) for target in sorted(map(str, targets)))
        return rf"(.*\.)?({endings})"
    return targets


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise AdapterError(f"there is no {path}; expected a folder that PEFT loads") from None
    except (OSError, ValueError, RecursionError) as error:
        raise AdapterError(f"{path} cannot be read as JSON: {error}") from error
    if not isinstance(content, dict):
        raise AdapterError(f"{path} holds {type(content).__name__}, expected a JSON object")
    return content


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_bytes((json.dumps(content, indent=2, sort_keys=True) + "\n").encode())


def _read_weights(path: Path) -> dict[str, Matrix]:
    try:
        tensors = load_safetensors(path.read_bytes())
    except FileNotFoundError:
        raise AdapterError(
            f"there is no {path}; fedvitals reads safetensors only, never a pickle"
        ) from None
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise AdapterError(f"{path} cannot be read: {error}") from error
    # Only float16 converts to float32 exactly; other types are left for `Adapter` to refuse.
    return {
        name: tensor.astype(np.float32) if tensor.dtype == np.float16 else tensor
        for name, tensor in tensors.items()
    }
