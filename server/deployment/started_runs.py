"""Folders of the runs that `python -m server run` has started: STATE/runs.jsonl, a line per run.

{"folder": "/srv/federation/run", "run": "3451148804108587527"}
"""

from __future__ import annotations

import json
from pathlib import Path

from server.deployment.control_log import read_log

_FILE = "runs.jsonl"


def note_folder(state: Path, run: str, folder: Path) -> None:
    """Record the folder of a run, for those who follow it later.

    Args:
        state: the folder of the services' state.
        run: Flower's id of the run.
        folder: its run folder.
    """
    line = json.dumps({"folder": str(folder), "run": run}, sort_keys=True)
    with (state / _FILE).open("a", encoding="utf-8") as file:
        file.write(f"{line}\n")


def folder_of(state: Path, run: str) -> Path | None:
    """Return the folder of a run; None where another command has started it."""
    for entry in read_log(state / _FILE):
        if entry.get("run") == run and isinstance(entry.get("folder"), str):
            return Path(entry["folder"])
    return None
