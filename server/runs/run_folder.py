"""The run's folder: what a run was, how each round went, and what came out of it.

config.json    the resolved settings, versions and the backbone's digest
rounds.jsonl   one line a round, written when the round ends
checkpoint/    the state after the last whole round, from which the run can go on
adapter/       the released adapter, with its model card
report.html    the report

The versions that a run's results depend on.
"""

from __future__ import annotations

import fcntl
import json
import os
import platform
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from common.atomic_io import write_text
from common.backbones.catalog import FAMILIES
from common.data.cohort_folder import COHORT_FILE
from common.errors import FederationError

_LIBRARIES = ("fedvitals", "flwr", "numpy", "peft", "torch", "transformers")


def library_versions(family: str) -> dict[str, str]:
    """Return the versions of Python, of the shared libraries and of the family's own, if any."""
    own = FAMILIES[family].library
    names = (*_LIBRARIES, own) if own else _LIBRARIES
    return {"python": platform.python_version(), **{name: version(name) for name in names}}


CONFIG_FILE = "config.json"
ROUNDS_FILE = "rounds.jsonl"
ADAPTER_FOLDER = "adapter"
EVALUATION_FILE = "evaluation.json"
REPORT_FILE = "report.html"


class RunFolder:
    """The folder of one run, claimed for as long as this process lives.

    Args:
        path: the folder.
        resume: go on with the run that it holds.

    Attributes:
        path: the folder.
        begun: whether a run was begun here before.

    Raises:
        FederationError: where the folder cannot be written, holds a run already (or, to resume,
            none), or another process works on it.
    """

    def __init__(self, path: Path, resume: bool = False) -> None:
        self.path = path
        if (path / COHORT_FILE).exists():
            raise FederationError(f"{path} already holds a cohort; give another folder")
        if resume and not (path / ROUNDS_FILE).exists():
            raise FederationError(f"{path} holds no run to resume; start one there without resume")
        try:
            path.mkdir(parents=True, exist_ok=True)
            self._claim = (path / ROUNDS_FILE).open("a", encoding="utf-8")
        except OSError as error:
            raise _unwritable(path, error) from error
        try:
            # The kernel lets go of it when the process ends, however it ends.
            fcntl.flock(self._claim, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._claim.close()
            raise FederationError(
                f"{path} already holds a run, on which another process works; give another folder"
            ) from error
        # A run that ended before it was begun, while the sites were gathered, left an empty file.
        self.begun = (path / CONFIG_FILE).exists() or (path / ROUNDS_FILE).stat().st_size > 0
        if self.begun and not resume:
            self._claim.close()
            raise FederationError(
                f"{path} already holds a run; give another folder, or resume it (resume = true)"
            )

    def abandon(self) -> None:
        """Give up the claim; where no run came about, nothing of it stays."""
        self.close()
        if not self.begun:
            (self.path / ROUNDS_FILE).unlink(missing_ok=True)

    def close(self) -> None:
        """Let another process take the run up."""
        self._claim.close()

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
                file.write(_line(record))
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise _unwritable(self.path, error) from error

    def rewind_rounds(self, last: int, record: Mapping[str, Any]) -> None:
        """Make rounds.jsonl end with the round that the checkpoint holds.

        A crash may come between the checkpoint and its line, or after a line (of the last
        validation) that is about to be written again. Rounds that failed stay: they happened.

        Args:
            last: the checkpoint's round.
            record: its line.
        """
        kept = [line for line in read_rounds(self.path) if line["round"] < last or "failed" in line]
        place = sum(line["round"] <= last for line in kept)
        lines = [*kept[:place], *([record] if record else []), *kept[place:]]
        text = "".join(_line(line) for line in lines)
        try:
            # In place, since the claim is on this very file. What stands before the end is written
            # again byte for byte, so that a crash in here loses nothing.
            with (self.path / ROUNDS_FILE).open("r+", encoding="utf-8") as file:
                file.write(text)
                file.truncate()
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise _unwritable(self.path, error) from error


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


def _line(record: Mapping[str, Any]) -> str:
    return json.dumps(record, sort_keys=True, allow_nan=False) + "\n"


def _unwritable(path: Path, error: OSError) -> FederationError:
    return FederationError(
        f"the run folder {path} cannot be written ({error.strerror or error}); "
        "free space or give another folder"
    )
