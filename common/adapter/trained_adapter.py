"""Trained adapter as a user names it: a run folder, a release, a PEFT folder, or a file in one.

Every command with `--adapter` (`common.console.AdapterPath`) finds and reads it by these functions.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from common.adapter.adapter import Adapter
from common.adapter.peft_io import (
    ORIGIN_FILE,
    PEFT_CONFIG_FILE,
    WEIGHTS_FILE,
    load_peft_folder,
)
from common.errors import AdapterError, UsageError

RUN_CONFIG_FILE = "config.json"
"""In a run folder: the run's resolved settings, versions and backbone."""
ADAPTER_FOLDER = "adapter"
"""The PEFT folder inside a run folder, or inside the folder that `personalise` writes."""

_TAKEN = (
    f"give a run folder, its {ADAPTER_FOLDER}/, a PEFT folder ({PEFT_CONFIG_FILE}), or the "
    f"{WEIGHTS_FILE} in one"
)


@dataclass(frozen=True)
class AdapterPlace:
    """Where a trained adapter is.

    Attributes:
        folder: the PEFT folder.
        run: the run folder that was named; None where none was.
        backbone: the backbone's name or folder as the run has it; None without a run. The adapter
            itself records only the last part of a local folder's path.
    """

    folder: Path
    run: Path | None = None
    backbone: str | None = None


def find_adapter(path: Path) -> AdapterPlace:
    """Find the adapter that a path names.

    Args:
        path: a run folder, a folder with a PEFT folder `adapter`, a PEFT folder, or a file in one.

    Raises:
        UsageError: there is none, or the run has released none.
    """
    if path.is_file():
        return _beside(path)
    if not path.is_dir():
        raise UsageError(f"there is no folder or file {path}; {_TAKEN}")
    if (path / PEFT_CONFIG_FILE).is_file():
        return AdapterPlace(path)
    inside = path / ADAPTER_FOLDER
    if (path / RUN_CONFIG_FILE).is_file():
        if not inside.is_dir():
            raise UsageError(
                f"the run in {path} has released no adapter: it is still running, or it failed and "
                "can be resumed"
            )
        return AdapterPlace(inside, path, _backbone_of(path))
    if (inside / PEFT_CONFIG_FILE).is_file():
        return AdapterPlace(inside)
    raise UsageError(f"{path} is neither a run folder nor a PEFT folder; {_TAKEN}")


def read_adapter(place: AdapterPlace, backbone: str | None = None) -> Adapter:
    """Read an adapter, which must be finite.

    Args:
        place: where it is.
        backbone: name or folder of the backbone; required for a folder that PEFT itself wrote,
            which records no digest.

    Raises:
        UsageError: the backbone is required and not given.
        AdapterError: the adapter is damaged or not finite.
        BackboneError: the backbone is unknown or absent.
    """
    if (place.folder / ORIGIN_FILE).is_file():
        adapter = load_peft_folder(place.folder)
    elif backbone is None:
        raise UsageError(
            f"{place.folder} does not record which weights it was trained on; name them with "
            "--backbone"
        )
    else:
        from common.backbones.loading import load_backbone

        loaded = load_backbone(backbone)
        adapter = load_peft_folder(
            place.folder, backbone=loaded.name, backbone_digest=loaded.digest
        )
    if (name := adapter.first_nonfinite()) is not None:
        raise AdapterError(
            f"{place.folder} holds NaN or infinity in {name}; take an adapter of an earlier round, "
            "or get the release again"
        )
    return adapter


def _beside(file: Path) -> AdapterPlace:
    """Return the PEFT folder of one of its files; a file alone lacks the rank and the layers."""
    known = (WEIGHTS_FILE, PEFT_CONFIG_FILE, ORIGIN_FILE)
    if file.name in known and (file.parent / PEFT_CONFIG_FILE).is_file():
        return AdapterPlace(file.parent)
    if file.name == WEIGHTS_FILE:
        raise UsageError(
            f"{file} has no {PEFT_CONFIG_FILE} beside it, which has the adapter's rank and layers; "
            "give the whole PEFT folder"
        )
    raise UsageError(f"{file} is no adapter; {_TAKEN}")


def _backbone_of(run: Path) -> str | None:
    """Return the backbone in a run's settings; None where they cannot be read."""
    try:
        name = json.loads((run / RUN_CONFIG_FILE).read_bytes())["settings"]["backbone"]
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return None
    return name if isinstance(name, str) else None
