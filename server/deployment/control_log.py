"""Log of the calls to the control API: STATE/logs/control.jsonl, one JSON object per line.

{"time": "2026-01-31T12:00:00Z", "operator": "a.meyer", "method": "start-run", "status": 200,
"run": "7"}; the operator of a call without a valid credential is null.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

LOG_VARIABLE = "FEDVITALS_CONTROL_LOG"
"""Environment variable with the path of the log, for the server's app."""
REFUSALS_EVERY_S = 1.0
"""Least seconds between two logged refusals; those between are counted: a caller without a
credential must not be able to fill the disk."""
_METHOD = re.compile(r"[a-z-]{1,64}")


def control_log(state: Path) -> Path:
    """Return the path of a coordinator's log."""
    return state / "logs" / "control.jsonl"


class ControlLog:
    """Writer of the log.

    Args:
        file: the log, created if absent, readable only by its owner.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._noted = -REFUSALS_EVERY_S
        self._left_out = 0

    def check(self) -> None:
        """Raise `OSError` if the log cannot be written."""
        os.close(self._open())

    def note(self, operator: str, method: str, status: int, run: str = "") -> None:
        """Log an authenticated call."""
        entry: dict[str, Any] = {"operator": operator, "method": _plain(method), "status": status}
        self._append({**entry, "run": run} if run else entry)

    def note_refused(self, method: str, status: int) -> None:
        """Log or count a call without a valid credential."""
        now = time.monotonic()
        if now - self._noted < REFUSALS_EVERY_S:
            self._left_out += 1
            return
        entry: dict[str, Any] = {"operator": None, "method": _plain(method), "status": status}
        if self._left_out:
            entry["refused_before"] = self._left_out
        self._append(entry)
        self._noted, self._left_out = now, 0

    def _append(self, entry: dict[str, Any]) -> None:
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        line = json.dumps({"time": now, **entry}) + "\n"
        descriptor = self._open()
        try:
            os.write(descriptor, line.encode())
        finally:
            os.close(descriptor)

    def _open(self) -> int:
        self._file.parent.mkdir(parents=True, exist_ok=True)
        return os.open(self._file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)


def read_log(file: Path) -> Iterator[dict[str, Any]]:
    """Yield the entries; a truncated line is skipped."""
    if not file.is_file():
        return
    with file.open(encoding="utf-8") as lines:
        for line in lines:
            try:
                entry = json.loads(line)
            except ValueError:
                continue
            if isinstance(entry, dict):
                yield entry


def started_by(run: str, file: Path | None = None) -> str:
    """Return the operator who started a run, empty if the log does not have it.

    Args:
        run: Flower's id of the run.
        file: the log; None = the file that FEDVITALS_CONTROL_LOG names.
    """
    named = os.environ.get(LOG_VARIABLE)
    file = file or (Path(named) if named else None)
    if file is None:
        return ""
    for entry in read_log(file):
        if entry.get("method") == "start-run" and entry.get("run") == run:
            return str(entry.get("operator") or "")
    return ""


def _plain(method: str) -> str:
    return method if _METHOD.fullmatch(method) else "?"
