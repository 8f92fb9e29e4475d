"""The run's folder: what a run was, how each round went, and what came out of it.

config.json    the resolved settings, versions and the backbone's digest
rounds.jsonl   one line a round, written when the round ends
checkpoint/    the latest and the best adapter so far, as PEFT folders
adapter/       the released adapter, with its model card
report.html    the report
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from common.adapter import Adapter
from common.atomic import write_text
from common.cohort_folder import COHORT_FILE
from common.errors import AdapterError, FederationError
from common.peft_adapter import save_peft_folder

CONFIG_FILE = "config.json"
ROUNDS_FILE = "rounds.jsonl"
CHECKPOINT_FOLDER = "checkpoint"
ADAPTER_FOLDER = "adapter"
EVALUATION_FILE = "evaluation.json"
REPORT_FILE = "report.html"


class RunFolder:
    """The folder of one run, made when the run starts.

    Raises:
        FederationError: where the folder cannot be written or already holds a run.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        for taken, what in ((CONFIG_FILE, "a run"), (COHORT_FILE, "a cohort")):
            if (path / taken).exists():
                raise FederationError(f"{path} already holds {what}; give another folder")
        try:
            path.mkdir(parents=True, exist_ok=True)
            # Claims the folder: of two runs that start at once, one gets it.
            (path / ROUNDS_FILE).touch(exist_ok=False)
        except FileExistsError as error:
            if not (path / ROUNDS_FILE).exists():
                raise _unwritable(path, error) from error
            raise FederationError(f"{path} already holds a run; give another folder") from error
        except OSError as error:
            raise _unwritable(path, error) from error

    def abandon(self) -> None:
        """Give up the claim on the folder where no run came about."""
        (self.path / ROUNDS_FILE).unlink(missing_ok=True)

    def write_config(self, config: Mapping[str, Any]) -> None:
        """Write the resolved settings; from then on the folder holds a run."""
        text = json.dumps(config, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
        try:
            write_text(self.path / CONFIG_FILE, text)
        except OSError as error:
            raise _unwritable(self.path, error) from error

    def append_round(self, record: Mapping[str, Any]) -> None:
        """Add one line to rounds.jsonl and see it onto the disk."""
        try:
            with (self.path / ROUNDS_FILE).open("a", encoding="utf-8") as file:
                file.write(json.dumps(record, sort_keys=True, allow_nan=False) + "\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise _unwritable(self.path, error) from error

    def save_adapter(self, name: str, adapter: Adapter) -> None:
        """Write an adapter as the PEFT folder `name`, e.g. ``checkpoint/latest``."""
        try:
            save_peft_folder(adapter, self.path / name)
        except AdapterError as error:
            raise FederationError(f"the run cannot be written: {error}") from error


def read_config(folder: Path) -> dict[str, Any]:
    """Read a run's config.json.

    Raises:
        FederationError: where the folder holds no run.
    """
    try:
        config: dict[str, Any] = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise FederationError(f"{folder} holds no run that can be read: {error}") from error
    if not isinstance(config, dict):
        raise FederationError(f"{folder / CONFIG_FILE} holds no settings of a run")
    return config


def read_rounds(folder: Path) -> list[dict[str, Any]]:
    """Read the rounds that have ended; a line cut off by a crash is left out."""
    path = folder / ROUNDS_FILE
    if not path.is_file():
        return []
    rounds = []
    for line in path.read_text(encoding="utf-8").split("\n"):
        try:
            rounds.append(json.loads(line))
        except ValueError:
            break
    return rounds


def _unwritable(path: Path, error: OSError) -> FederationError:
    return FederationError(
        f"the run folder {path} cannot be written ({error.strerror or error}); "
        "free space or give another folder"
    )
