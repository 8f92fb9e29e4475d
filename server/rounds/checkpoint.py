"""The state of a run after a round, in one file that is whole or absent.

    checkpoint/state.safetensors   the latest and the best adapter, what is carried beside them, the
                                   server optimizer's numbers; and, as JSON in the metadata, the
                                   round, the validation so far and the line of rounds.jsonl

Everything random in a run is drawn from (seed, what for, round), so that there is no generator to
keep: a run continued from this file ends in the same bytes as one that was never interrupted.
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
from common.atomic_io import atomic_file
from common.config.run_config import RunConfig
from common.errors import AdapterError, FederationError, UsageError
from server.rounds.model_selection import Best, Selection

CHECKPOINT_FILE = "checkpoint/state.safetensors"
_FORMAT = "fedvitals-checkpoint/1"
_LOCAL = frozenset({"data", "out", "resume", "train.device", "train.threads"})
"""Settings of where a run lies and what it runs on, which may be others when it goes on."""


@dataclass(frozen=True)
class Checkpoint:
    """A run after a whole round.

    Attributes:
        round: the last round that is whole; 0 before the first.
        adapter: the global adapter after it.
        carried: the low-rank part carried beside it, if the rule has one.
        selection: the validation so far, with the best adapter.
        optimizer: the server optimizer's state by name.
        record: the round's line of rounds.jsonl.
    """

    round: int
    adapter: Adapter
    carried: Adapter | None
    selection: Selection
    optimizer: Mapping[str, Matrix] = field(default_factory=dict)
    record: Mapping[str, Any] = field(default_factory=dict)


def settings_digest(config: RunConfig) -> str:
    """SHA-256 over the settings that decide a run's bytes."""
    text = json.dumps(_deciding(config.flat()), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def check_same_settings(config: RunConfig, recorded: Mapping[str, Any]) -> None:
    """Check that a run goes on with the settings that it began with.

    Args:
        config: the settings given now.
        recorded: those of the run's config.json.

    Raises:
        UsageError: naming the first setting that differs.
    """
    now, then = _deciding(config.flat()), _deciding(recorded)
    for key in sorted(now.keys() | then.keys()):
        if now.get(key) != then.get(key):
            raise UsageError(
                f"{key} is {now.get(key)!r}, the run began with {then.get(key)!r}; a run goes on "
                "with its own settings"
            )


def save_checkpoint(folder: Path, config: RunConfig, checkpoint: Checkpoint) -> None:
    """Write the state of a run, in place of the last round's.

    Raises:
        FederationError: where the folder cannot be written; the last round's state stays.
    """
    tensors: dict[str, Any] = dict(_prefixed("optimizer", checkpoint.optimizer))
    adapters = {"latest": checkpoint.adapter, "best": checkpoint.selection.best.adapter}
    if checkpoint.carried is not None:
        adapters["carried"] = checkpoint.carried
    for label, adapter in adapters.items():
        tensors |= _prefixed(label, adapter.tensors)
    best = checkpoint.selection.best
    state = {
        "format": _FORMAT,
        "settings": settings_digest(config),
        "round": checkpoint.round,
        "adapters": {label: _described(adapter) for label, adapter in adapters.items()},
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
        The state; None where the run ended before its first round was whole.

    Raises:
        FederationError: where the file is damaged or of other settings.
    """
    path = folder / CHECKPOINT_FILE
    if not path.is_file():
        return None
    try:
        with safe_open(path, "np") as file:
            state = json.loads(file.metadata()["state"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if (state["format"], state["settings"]) != (_FORMAT, settings_digest(config)):
            raise FederationError(f"{path} is of a run with other settings; it cannot go on")
        return _restored(state, tensors)
    except (OSError, SafetensorError, AdapterError, KeyError, TypeError, ValueError) as error:
        raise FederationError(
            f"{path} cannot be read ({error}); the run cannot go on from it"
        ) from error


def _restored(state: Mapping[str, Any], tensors: Mapping[str, Any]) -> Checkpoint:
    adapters = {
        label: Adapter(_below(tensors, label), **described)
        for label, described in state["adapters"].items()
    }
    best = state["best"]
    return Checkpoint(
        round=state["round"],
        adapter=adapters["latest"],
        carried=adapters.get("carried"),
        selection=Selection(Best(adapters["best"], **best), state["baseline"]),
        optimizer=_below(tensors, "optimizer"),
        record=state["record"],
    )


def _deciding(flat: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in flat.items() if key not in _LOCAL}


def _described(adapter: Adapter) -> dict[str, Any]:
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
