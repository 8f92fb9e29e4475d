"""Folder of a run: its files, and the claim that keeps it to one process.

config.json    the resolved settings, versions and the backbone's digest
rounds.jsonl   one line per round, written when the round ends
checkpoint/    the state after the last complete round, from which the run can be resumed
adapter/       the released adapter, with its model card
report.html    the report
"""

from __future__ import annotations

import fcntl
import json
import os
import platform
import shlex
import shutil
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from common.adapter.trained_adapter import RUN_CONFIG_FILE
from common.backbones.catalog import FAMILIES
from common.data.cohort_folder import COHORT_FILE
from common.errors import FederationError
from common.files.atomic_io import write_text
from common.files.output_folder import check_output
from common.files.paths import STATE_FOLDER

ROUNDS_FILE = "rounds.jsonl"
EVALUATION_FILE = "evaluation.json"
REPORT_FILE = "report.html"
TRACKER_FOLDER = "tensorboard"
CHECKPOINT_FILE = "checkpoint/state.safetensors"
"""Written at the end of each whole round; from then on the run can be resumed."""

SITE_SETTINGS = "site_settings"
"""Key of config.json: settings of single sites of a simulation, by SITE.KEY."""

_LIBRARIES = ("fedvitals", "flwr", "numpy", "peft", "torch", "transformers")


class RunFolder:
    """Folder of one run, locked against other processes until `close` or the process's end.

    Args:
        path: the folder.
        resume: resume the run in the folder.
        simulated: whether the run is a simulation, for the command that a message names.

    Attributes:
        path: the folder.
        simulated: whether the run is a simulation.
        has_run: whether the folder held a run before, which is resumed.
        renewed: whether it held a run without a whole round, whose records are removed.

    Raises:
        FederationError: the folder cannot be written, has files of another kind, already holds a
            run (or, to resume, none), or is in use by another process.
    """

    def __init__(self, path: Path, resume: bool = False, *, simulated: bool = True) -> None:
        self.path = path
        self.simulated = simulated
        check_run_folder(path, resume, simulated=simulated)
        try:
            path.mkdir(parents=True, exist_ok=True)
            self._lock_file = (path / ROUNDS_FILE).open("a", encoding="utf-8")
        except OSError as error:
            raise _unwritable(path, error) from error
        try:
            # The kernel releases the lock when the process ends, however it ends.
            fcntl.flock(self._lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._lock_file.close()
            raise FederationError(
                f"{path} already holds a run, on which another process works; give another folder"
            ) from error
        # A process that ended during enrollment has left an empty file.
        self.has_run = (path / RUN_CONFIG_FILE).exists() or (path / ROUNDS_FILE).stat().st_size > 0
        self.renewed = self.has_run and not resume
        if self.renewed:
            self._remove_run()

    def _remove_run(self) -> None:
        """Remove the records of a run without a whole round, so that one starts anew."""
        if (self.path / CHECKPOINT_FILE).exists():  # written since the check
            self._lock_file.close()
            raise _occupied(self.path, self.simulated)
        try:
            self._lock_file.truncate(0)
            shutil.rmtree(self.path / Path(CHECKPOINT_FILE).parent, ignore_errors=True)
            # What simulated sites spent in it is no budget of the new run's.
            if self.simulated and (self.path / STATE_FOLDER).is_dir():
                shutil.rmtree(self.path / STATE_FOLDER)
            # Last: a crash before it leaves a folder that can still be started anew.
            (self.path / RUN_CONFIG_FILE).unlink(missing_ok=True)
        except OSError as error:
            self._lock_file.close()
            raise _unwritable(self.path, error) from error
        self.has_run = False

    def abandon(self) -> None:
        """Release the folder, and remove rounds.jsonl where no run was started."""
        self.close()
        if not self.has_run:
            (self.path / ROUNDS_FILE).unlink(missing_ok=True)

    def close(self) -> None:
        """Release the folder, so that another process can resume the run."""
        self._lock_file.close()

    def write_config(self, config: Mapping[str, Any]) -> None:
        """Write config.json; from then on the folder holds a run."""
        text = json.dumps(config, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
        try:
            write_text(self.path / RUN_CONFIG_FILE, text)
        except OSError as error:
            raise _unwritable(self.path, error) from error

    def append_round(self, record: Mapping[str, Any]) -> None:
        """Append one line to rounds.jsonl and flush it to disk."""
        try:
            with (self.path / ROUNDS_FILE).open("a", encoding="utf-8") as file:
                file.write(_line(record))
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise _unwritable(self.path, error) from error

    def rewind_rounds(self, last: int, record: Mapping[str, Any]) -> None:
        """Rewrite rounds.jsonl to end with the checkpoint's round.

        The line of that round is missing after a crash between checkpoint and line; the line of the
        last validation is dropped, as it is repeated. Lines of failed rounds stay.

        Args:
            last: the checkpoint's round.
            record: its line; empty before the first round.
        """
        kept = [line for line in read_rounds(self.path) if line["round"] < last or "failed" in line]
        place = sum(line["round"] <= last for line in kept)
        lines = [*kept[:place], *([record] if record else []), *kept[place:]]
        text = "".join(_line(line) for line in lines)
        try:
            # In place, since the lock is on this file. The lines that stay are rewritten with the
            # same bytes, so that a crash here loses nothing.
            with (self.path / ROUNDS_FILE).open("r+", encoding="utf-8") as file:
                file.write(text)
                file.truncate()
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise _unwritable(self.path, error) from error


def check_run_folder(path: Path, resume: bool = False, *, simulated: bool = True) -> None:
    """Refuse, before any work, a folder in which the run cannot be started or resumed.

    A run that has not finished a round holds nothing but records: it may be started anew, with
    other settings.

    Args:
        path: the run folder, which need not exist.
        resume: resume the run in it.
        simulated: whether the run is a simulation, for the advice.

    Raises:
        FederationError: the folder cannot be written, has files of another kind, already holds a
            run with a whole round, or, to resume, none.
    """
    if (path / COHORT_FILE).exists():
        raise FederationError(f"{path} already holds a cohort; give another folder")
    # A tracker of `simulation run --track` writes into it before the run does.
    records = (RUN_CONFIG_FILE, ROUNDS_FILE, TRACKER_FOLDER)
    check_output(path, records, error=FederationError, remedy=_OTHER_FOLDER)
    if resume and not (path / ROUNDS_FILE).exists():
        option = "--resume" if simulated else "-c resume=true"
        raise FederationError(f"{path} holds no run to resume; start one there without {option}")
    if not resume and (path / CHECKPOINT_FILE).exists():
        raise _occupied(path, simulated)


def how_to_resume(path: Path, simulated: bool) -> str:
    """Return the command by which a run in a folder is resumed, in a simulation or a deployment."""
    if simulated:
        return f"python -m simulation run --resume {shlex.quote(str(path))}"
    return (
        f"python -m server run -c resume=true -c out={shlex.quote(str(path))} and its own settings"
    )


def library_versions(family: str) -> dict[str, str]:
    """Return the versions of Python, the shared libraries and the backbone family's own, if any."""
    own = FAMILIES[family].library
    names = (*_LIBRARIES, own) if own else _LIBRARIES
    return {"python": platform.python_version(), **{name: version(name) for name in names}}


def read_run_config(folder: Path) -> dict[str, Any]:
    """Read a run's config.json.

    Raises:
        FederationError: the folder holds no run, or its config.json is damaged.
    """
    try:
        config: dict[str, Any] = json.loads((folder / RUN_CONFIG_FILE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FederationError(f"{folder} holds no run: it has no {RUN_CONFIG_FILE}") from None
    except (OSError, ValueError) as error:
        raise FederationError(
            f"{folder} holds no run, or a damaged {RUN_CONFIG_FILE}: {error}"
        ) from error
    if not isinstance(config, dict):
        raise FederationError(f"{folder / RUN_CONFIG_FILE} is not the settings of a run")
    return config


def read_rounds(folder: Path) -> list[dict[str, Any]]:
    """Read the lines of rounds.jsonl; a line cut off by a crash is left out."""
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


_OTHER_FOLDER = "give another folder (out)"


def _occupied(path: Path, simulated: bool) -> FederationError:
    return FederationError(
        f"{path} already holds a run; give another folder, or resume it: "
        f"{how_to_resume(path, simulated)}"
    )


def _unwritable(path: Path, error: OSError) -> FederationError:
    return FederationError(
        f"the run folder {path} cannot be written ({error.strerror or error}); "
        "free space or give another folder"
    )
