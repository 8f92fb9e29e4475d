"""What is evaluated: an adapter from a run folder or a PEFT folder, and its frozen backbone."""

from __future__ import annotations

from collections.abc import Mapping
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
from common.config.run_config import RunConfig
from common.errors import AdapterError, UsageError
from server.runs.run_folder import ADAPTER_FOLDER, CONFIG_FILE, read_config


@dataclass(frozen=True)
class Subject:
    """An adapter with all that its evaluation needs.

    Attributes:
        adapter: the adapter.
        loaded: its frozen backbone.
        config: the settings of its training; of a folder of PEFT's own the defaults.
        run: the run folder; None for a PEFT folder.
        step_minutes: the length of a time step in the run; None where the folder tells none.
    """

    adapter: Adapter
    loaded: LoadedBackbone
    config: RunConfig
    run: Path | None
    step_minutes: int | None


def load_subject(
    folder: Path, *, backbone: str | None = None, windows: Mapping[str, Any] | None = None
) -> Subject:
    """Find an adapter, load its backbone and check that the two belong together.

    Args:
        folder: a run folder, a PEFT folder of ours, or one that PEFT itself wrote.
        backbone: name or folder of the backbone; needed for a PEFT folder of PEFT's own, and where
            the weights lie elsewhere than during the run.
        windows: settings ``windows.*`` that stand above the run's.

    Raises:
        UsageError: there is no adapter in the folder, or a setting is not one of ``windows.*``.
        AdapterError: the adapter is damaged, not finite or was trained on another backbone.
        BackboneError: the backbone is unknown or absent.
    """
    run, peft_folder = _locate(folder)
    record = read_config(run) if run else {}
    given = dict(windows or {})
    for key in given:
        if not key.startswith("windows."):
            raise UsageError(f"an evaluation takes settings windows.* only, got {key}")
    settings = dict(record.get("settings", {})) if run else read_settings(peft_folder)
    told = settings.pop("step_minutes", None)
    config = RunConfig.parse({**settings, **given})
    # Of a local folder of weights the adapter keeps the last part of its path alone.
    adapter, loaded = _load(peft_folder, backbone or (config.backbone if run else None))
    if (name := adapter.first_nonfinite()) is not None:
        raise AdapterError(
            f"{peft_folder} holds NaN or infinity in {name}; take an adapter of an earlier round"
        )
    steps = {int(site["step_minutes"]) for site in record.get("sites", {}).values()}
    return Subject(adapter, loaded, config, run, min(steps, default=told))


def _locate(folder: Path) -> tuple[Path | None, Path]:
    """Return the run folder, if it is one, and the PEFT folder."""
    if (folder / PEFT_CONFIG_FILE).is_file():
        return None, folder
    if (folder / CONFIG_FILE).is_file():
        if (folder / ADAPTER_FOLDER).is_dir():
            return folder, folder / ADAPTER_FOLDER
        raise UsageError(
            f"the run in {folder} has released no adapter: it still goes on, or it failed and can "
            "be resumed"
        )
    if not folder.is_dir():
        raise UsageError(f"there is no folder {folder}; give a run folder or a PEFT folder")
    raise UsageError(
        f"{folder} is neither a run folder ({CONFIG_FILE}) nor a PEFT folder ({PEFT_CONFIG_FILE})"
    )


def _load(folder: Path, backbone: str | None) -> tuple[Adapter, LoadedBackbone]:
    if not (folder / ORIGIN_FILE).is_file():
        if backbone is None:
            raise UsageError(
                f"{folder} does not tell which weights it was trained on; name them with --backbone"
            )
        loaded = load_backbone(backbone)
        return load_peft_folder(folder, backbone=backbone, backbone_digest=loaded.digest), loaded
    adapter = load_peft_folder(folder)
    loaded = load_backbone(backbone or adapter.backbone)
    if adapter.backbone_digest != loaded.digest:
        raise AdapterError(
            f"{folder} was trained on {adapter.backbone} ({adapter.backbone_digest[:12]}), the "
            f"weights of {loaded.name} are {loaded.digest[:12]}; give those that it was trained on "
            "with --backbone"
        )
    return adapter, loaded
