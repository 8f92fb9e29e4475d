"""Released adapter of a run folder or a PEFT folder, with its backbone and settings."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.adapter.adapter import Adapter
from common.adapter.peft_io import read_settings
from common.adapter.trained_adapter import AdapterPlace, find_adapter, read_adapter
from common.backbones.loading import LoadedBackbone, load_backbone
from common.errors import AdapterError


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
    place = find_adapter(folder)
    settings = read_settings(place.folder)
    step_minutes = settings.pop("step_minutes", None)
    named = place.backbone or settings.get("backbone")
    adapter, loaded = load_adapter_and_backbone(place, backbone or named)
    return LoadedRelease(adapter, loaded, settings, step_minutes)


def load_adapter_and_backbone(
    place: AdapterPlace, backbone: str | None = None
) -> tuple[Adapter, LoadedBackbone]:
    """Load an adapter and its backbone.

    Args:
        place: where the adapter is.
        backbone: name or folder of the backbone; the one that the run or the folder names by
            default.

    Raises:
        UsageError: the folder does not name its backbone, nor does the caller.
        AdapterError: the adapter is damaged, not finite or was trained on another backbone.
        BackboneError: the backbone is unknown or absent.
    """
    adapter = read_adapter(place, backbone)
    loaded = load_backbone(backbone or place.backbone or adapter.backbone)
    if adapter.backbone_digest != loaded.digest:
        raise AdapterError(
            f"{place.folder} was trained on {adapter.backbone} ({adapter.backbone_digest[:12]}), "
            f"but the weights of {loaded.name} are {loaded.digest[:12]}; give the weights it was "
            "trained on with --backbone"
        )
    return adapter, loaded
