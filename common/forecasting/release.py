"""Released adapter of a run folder or a PEFT folder, with its backbone and settings."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.adapter.adapter import Adapter
from common.adapter.peft_io import (
    ORIGIN_FILE,
    PEFT_CONFIG_FILE,
    load_peft_folder,
    read_settings,
)
from common.backbones.loading import LoadedBackbone, load_backbone
from common.errors import AdapterError, UsageError

_RUN_ADAPTER = "adapter"


@dataclass(frozen=True)
class LoadedRelease:
    """Released adapter with its frozen backbone.

    Attributes:
        adapter: the adapter, all of whose values are finite.
        loaded_backbone: the backbone that it was trained on.
        settings: the settings of its training; empty for a folder that PEFT itself wrote.
        step_minutes: length of a time step in training; None if the folder does not record it.
    """

    adapter: Adapter
    loaded_backbone: LoadedBackbone
    settings: dict[str, Any]
    step_minutes: int | None


def load_release(folder: Path, *, backbone: str | None = None) -> LoadedRelease:
    """Load a released adapter and its backbone, and check that they belong together.

    Args:
        folder: a run folder, a PEFT folder of ours, or one that PEFT itself wrote.
        backbone: name or folder of the backbone, where the folder does not name it or its weights
            have moved.

    Raises:
        UsageError: there is no adapter in the folder, or its backbone is not named.
        AdapterError: the adapter is damaged, not finite or was trained on another backbone.
        BackboneError: the backbone is unknown or absent.
    """
    peft_folder = _peft_folder(folder)
    settings = read_settings(peft_folder)
    step_minutes = settings.pop("step_minutes", None)
    adapter, loaded = load_adapter_and_backbone(peft_folder, backbone or settings.get("backbone"))
    return LoadedRelease(adapter, loaded, settings, step_minutes)


def load_adapter_and_backbone(
    folder: Path, backbone: str | None = None
) -> tuple[Adapter, LoadedBackbone]:
    """Load the adapter of a PEFT folder and its backbone.

    Args:
        folder: a PEFT folder.
        backbone: name or folder of the backbone; the one that the folder names by default.

    Raises:
        UsageError: the folder does not name its backbone, nor does the caller.
        AdapterError: the adapter is damaged, not finite or was trained on another backbone.
        BackboneError: the backbone is unknown or absent.
    """
    if (folder / ORIGIN_FILE).is_file():
        adapter = load_peft_folder(folder)
        loaded = load_backbone(backbone or adapter.backbone)
    elif backbone is None:
        raise UsageError(
            f"{folder} does not record which weights it was trained on; name them with --backbone"
        )
    else:
        loaded = load_backbone(backbone)
        adapter = load_peft_folder(folder, backbone=backbone, backbone_digest=loaded.digest)
    if adapter.backbone_digest != loaded.digest:
        raise AdapterError(
            f"{folder} was trained on {adapter.backbone} ({adapter.backbone_digest[:12]}), but the "
            f"weights of {loaded.name} are {loaded.digest[:12]}; give the weights it was trained "
            "on with --backbone"
        )
    if (name := adapter.first_nonfinite()) is not None:
        raise AdapterError(
            f"{folder} holds NaN or infinity in {name}; take an adapter of an earlier round"
        )
    return adapter, loaded


def _peft_folder(folder: Path) -> Path:
    for candidate in (folder, folder / _RUN_ADAPTER):
        if (candidate / PEFT_CONFIG_FILE).is_file():
            return candidate
    if not folder.is_dir():
        raise UsageError(f"there is no folder {folder}; give a run folder or a PEFT folder")
    raise UsageError(
        f"{folder} has no adapter; give a PEFT folder ({PEFT_CONFIG_FILE}), or a run folder whose "
        "run has released one"
    )
