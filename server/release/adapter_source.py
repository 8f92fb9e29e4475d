"""Trained adapter of a run folder or a PEFT folder, loaded with its frozen backbone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.adapter.adapter import Adapter
from common.adapter.peft_io import PEFT_CONFIG_FILE, read_settings
from common.backbones.loading import LoadedBackbone
from common.config.run_config import RunConfig
from common.errors import UsageError
from common.forecasting.release import load_adapter_and_backbone
from server.runs.run_folder import ADAPTER_FOLDER, RUN_CONFIG_FILE, read_run_config


@dataclass(frozen=True)
class LoadedAdapter:
    """Trained adapter with everything its evaluation needs.

    Attributes:
        adapter: the adapter.
        loaded_backbone: its frozen backbone.
        config: the settings of its training; the defaults for a folder written by PEFT itself.
        run: the run folder; None for a PEFT folder.
        step_minutes: length of a time step in training; None if the folder does not record it.
    """

    adapter: Adapter
    loaded_backbone: LoadedBackbone
    config: RunConfig
    run: Path | None
    step_minutes: int | None


def load_adapter(
    folder: Path, *, backbone: str | None = None, windows: Mapping[str, Any] | None = None
) -> LoadedAdapter:
    """Load an adapter and its backbone, and check that they belong together.

    Args:
        folder: a run folder, a PEFT folder of ours, or one that PEFT itself wrote.
        backbone: name or folder of the backbone. Needed for a folder that PEFT itself wrote, and
            when the weights are no longer where the run found them.
        windows: settings ``windows.*`` that override the run's.

    Raises:
        UsageError: there is no adapter in the folder, or a setting is not one of ``windows.*``.
        AdapterError: the adapter is damaged, not finite or was trained on another backbone.
        BackboneError: the backbone is unknown or absent.
    """
    run, peft_folder = _locate(folder)
    record = read_run_config(run) if run else {}
    overrides = dict(windows or {})
    for key in overrides:
        if not key.startswith("windows."):
            raise UsageError(f"an evaluation takes settings windows.* only, got {key}")
    settings = dict(record.get("settings", {})) if run else read_settings(peft_folder)
    recorded_step = settings.pop("step_minutes", None)
    config = RunConfig.parse({**settings, **overrides})
    # The adapter records only the last part of the path of a local weights folder.
    adapter, loaded = load_adapter_and_backbone(
        peft_folder, backbone or (config.backbone if run else None)
    )
    steps = {int(site["step_minutes"]) for site in record.get("sites", {}).values()}
    return LoadedAdapter(adapter, loaded, config, run, min(steps, default=recorded_step))


def _locate(folder: Path) -> tuple[Path | None, Path]:
    """Return the run folder, if it is one, and the PEFT folder."""
    if (folder / PEFT_CONFIG_FILE).is_file():
        return None, folder
    if (folder / RUN_CONFIG_FILE).is_file():
        if (folder / ADAPTER_FOLDER).is_dir():
            return folder, folder / ADAPTER_FOLDER
        raise UsageError(
            f"the run in {folder} has released no adapter: it is still running, or it failed and "
            "can be resumed"
        )
    if not folder.is_dir():
        raise UsageError(f"there is no folder {folder}; give a run folder or a PEFT folder")
    raise UsageError(
        f"{folder} is neither a run folder ({RUN_CONFIG_FILE}) nor a PEFT folder "
        f"({PEFT_CONFIG_FILE})"
    )
