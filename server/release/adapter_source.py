"""Trained adapter of a run folder or a PEFT folder, loaded with its frozen backbone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.adapter.adapter import Adapter
from common.adapter.peft_io import read_settings
from common.adapter.trained_adapter import find_adapter
from common.backbones.loading import LoadedBackbone
from common.config.durations import STEP_KEY
from common.config.run_config import RunConfig
from common.config.tasks import TASK_KEY, TASKS
from common.errors import UsageError
from common.forecasting.release import load_adapter_and_backbone
from server.runs.run_folder import read_run_config


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
        folder: a run folder, a PEFT folder of ours, one that PEFT itself wrote, or a file in one.
        backbone: name or folder of the backbone. Needed for a folder that PEFT itself wrote, and
            when the weights are no longer where the run found them.
        windows: settings ``windows.*``, and a task, that override the run's; the backbone of a
            task is left out, since it is the adapter's own.

    Raises:
        UsageError: there is no adapter in the folder, or a setting is another.
        AdapterError: the adapter is damaged, not finite or was trained on another backbone.
        BackboneError: the backbone is unknown or absent.
    """
    place = find_adapter(folder)
    run = place.run
    record = read_run_config(run) if run else {}
    overrides = _overrides(windows or {})
    settings = dict(record.get("settings", {})) if run else read_settings(place.folder)
    recorded_step = settings.pop("step_minutes", None)
    steps = {int(site["step_minutes"]) for site in record.get("sites", {}).values()}
    step_minutes = min(steps, default=recorded_step)
    if step_minutes and not settings.get(STEP_KEY):
        settings[STEP_KEY] = step_minutes
    config = RunConfig.parse({**settings, **overrides})
    if config.step_minutes and step_minutes and config.step_minutes != step_minutes:
        raise UsageError(
            f"the adapter was trained on steps of {step_minutes} min, not {config.step_minutes}; "
            f"give -c {STEP_KEY}={step_minutes}"
        )
    adapter, loaded = load_adapter_and_backbone(place, backbone)
    return LoadedAdapter(adapter, loaded, config, run, step_minutes)


def _overrides(given: Mapping[str, Any]) -> dict[str, Any]:
    overrides = dict(given)
    task = TASKS.get(str(given.get(TASK_KEY)))
    if task is not None and overrides.get("backbone") == task.settings["backbone"]:
        del overrides["backbone"]
    for key in overrides:
        if not key.startswith("windows.") and key not in (TASK_KEY, STEP_KEY):
            raise UsageError(
                f"an evaluation takes settings windows.*, {STEP_KEY} and {TASK_KEY} only, got {key}"
            )
    return overrides
