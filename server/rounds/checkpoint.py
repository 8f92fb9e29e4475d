"""Checkpoint of a run after a round: one file, written atomically.

    checkpoint/state.safetensors   the latest and the best adapter, the residual, the server
                                   optimizer's state; and, as JSON in the metadata, the round, the
                                   validation so far and the line of rounds.jsonl

Every random draw of a run is seeded by (seed, purpose, round), so that there is no generator state
to save: a run resumed from this file ends in the same bytes as an uninterrupted one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from common.adapter.adapter import Adapter, Matrix
from common.config.run_config import RunConfig
from common.errors import AdapterError, FederationError, UsageError
from common.files.atomic_io import atomic_file
from server.rounds.model_selection import BestAdapter, ModelSelection
from server.runs.run_folder import CHECKPOINT_FILE

_FORMAT = "fedvitals-checkpoint/1"
_LOCAL_SETTINGS = frozenset(
    {"data", "out", "resume", "statistics", "train.device", "train.threads"}
)
"""Settings of paths and hardware, which may change when a run is resumed."""


@dataclass(frozen=True)
class Checkpoint:
    """State of a run after a complete round.

    Attributes:
        round: the last complete round; 0 before the first.
        adapter: the global adapter after it.
        residual: the low-rank residual added to its product, if the rule has one.
        selection: the validation so far, with the best adapter.
        optimizer: the server optimizer's state by name.
        record: the round's line of rounds.jsonl.
    """

    round: int
    adapter: Adapter
    residual: Adapter | None
    selection: ModelSelection
    optimizer: Mapping[str, Matrix] = field(default_factory=dict)
    record: Mapping[str, Any] = field(default_factory=dict)


def settings_digest(config: RunConfig) -> str:
    """SHA-256 over the settings that determine a run's bytes."""
    text = json.dumps(_without_local(config.flat()), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def check_same_settings(
    config: RunConfig, recorded: Mapping[str, Any], *, begun: bool = True
) -> None:
    """Check that a run is resumed with the settings that it began with.

    Args:
        config: the settings given now.
        recorded: those of the run's config.json.
        begun: whether the run has a whole round; without one it can also be started anew.

    Raises:
        UsageError: a setting differs; the message names the first.
    """
    now, then = _without_local(config.flat()), _without_local(recorded)
    for key in sorted(now.keys() | then.keys()):
        if now.get(key) != then.get(key):
            raise UsageError(
                f"{key} is {now.get(key)!r}, the run began with {then.get(key)!r}; resume "
                "with the run's own settings"
                + ("" if begun else ", or start it anew without resume: it has no whole round")
            )


def save_checkpoint(folder: Path, config: RunConfig, checkpoint: Checkpoint) -> None:
    """Write the state of a run, replacing that of the round before.

    Raises:
        FederationError: the folder cannot be written; the previous state stays.
    """
    tensors: dict[str, Any] = dict(_prefixed("optimizer", checkpoint.optimizer))
    adapters = {"latest": checkpoint.adapter, "best": checkpoint.selection.best.adapter}
    if checkpoint.residual is not None:
        adapters["carried"] = checkpoint.residual
    for label, adapter in adapters.items():
        tensors |= _prefixed(label, adapter.tensors)
    best = checkpoint.selection.best
    state = {
        "format": _FORMAT,
        "settings": settings_digest(config),
        "round": checkpoint.round,
        "adapters": {label: _settings_of(adapter) for label, adapter in adapters.items()},
        "best": {"round": best.round, "score": best.score, "stale": best.stale},
        "baseline": checkpoint.selection.baseline,
        "record": dict(checkpoint.record),
    }
    data = save(tensors, metadata={"state": json.dumps(state, sort_keys=True, allow_nan=False)})
    try:
        with atomic_file(folder / CHECKPOINT_FILE) as partial:
            partial.write_bytes(data)
    except OSError as error:
        raise FederationError(
            f"the checkpoint cannot be written to {folder} ({error.strerror or error}); free space "
            "and resume the run"
        ) from error


def load_checkpoint(folder: Path, config: RunConfig) -> Checkpoint | None:
    """Read the state of a run.

    Args:
        folder: the run folder.
        config: the run's settings.

    Returns:
        The state; None where the run ended before its first round was complete.

    Raises:
        FederationError: the file is damaged or of other settings.
    """
    path = folder / CHECKPOINT_FILE
    if not path.is_file():
        return None
    try:
        with safe_open(path, "np") as file:
            state = json.loads(file.metadata()["state"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if (state["format"], state["settings"]) != (_FORMAT, settings_digest(config)):
            raise FederationError(f"{path} is of a run with other settings; it cannot be resumed")
        return _parse_state(state, tensors)
    except (OSError, SafetensorError, AdapterError, KeyError, TypeError, ValueError) as error:
        raise FederationError(
            f"{path} cannot be read ({error}); the run cannot be resumed from it"
        ) from error


def _parse_state(state: Mapping[str, Any], tensors: Mapping[str, Any]) -> Checkpoint:
    adapters = {
        label: Adapter(_below(tensors, label), **settings)
        for label, settings in state["adapters"].items()
    }
    best = state["best"]
    return Checkpoint(
        round=state["round"],
        adapter=adapters["latest"],
        residual=adapters.get("carried"),
        selection=ModelSelection(BestAdapter(adapters["best"], **best), state["baseline"]),
        optimizer=_below(tensors, "optimizer"),
        record=state["record"],
    )


def _without_local(flat: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in flat.items() if key not in _LOCAL_SETTINGS}


def _settings_of(adapter: Adapter) -> dict[str, Any]:
    return {
        "rank": adapter.rank,
        "alpha": adapter.alpha,
        "target_modules": adapter.target_modules,
        "backbone": adapter.backbone,
        "backbone_digest": adapter.backbone_digest,
        "dropout": adapter.dropout,
    }


def _prefixed(label: str, tensors: Mapping[str, Matrix]) -> dict[str, Matrix]:
    return {f"{label}/{name}": np.ascontiguousarray(tensor) for name, tensor in tensors.items()}


def _below(tensors: Mapping[str, Any], label: str) -> dict[str, Any]:
    prefix = f"{label}/"
    return {
        name.removeprefix(prefix): tensor
        for name, tensor in tensors.items()
        if name.startswith(prefix)
    }
