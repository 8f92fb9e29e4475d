"""Environment of Flower's processes: no downloads, no telemetry, and imports of our code only."""

from __future__ import annotations

import os
import sys
from pathlib import Path

OFFLINE = {
    # Otherwise every run would resolve and download torch again.
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
}
SAFE_IMPORTS = {
    # Otherwise `python -m client` in a folder that an app can write to would import its files.
    "PYTHONSAFEPATH": "1",
}
POLLING = {
    # Seconds between a SuperExec's polls for work. With Flower's 1 s, each message waits 0.5 s on
    # average; with 0.1 s, an idle node and its app's process use a twentieth of a core.
    "FLWR_SUPEREXEC_TASK_POLL_INTERVAL": "0.5",
}


def executable(name: str) -> Path:
    """Return the path of a command beside this python, whose symbolic link is not followed."""
    return Path(sys.executable).absolute().parent / name


def flower_environment() -> dict[str, str]:
    """Return this process's environment, set up for Flower, with its commands on the path.

    `OFFLINE` and `SAFE_IMPORTS` override the environment; the environment overrides `POLLING`.
    """
    path = os.pathsep.join([str(executable("")), os.environ.get("PATH", os.defpath)])
    return {**POLLING, **os.environ, **OFFLINE, **SAFE_IMPORTS, "PATH": path}
