"""The environment of Flower's processes: they fetch and tell nothing, and find the right code."""

from __future__ import annotations

import os
import sys
from pathlib import Path

QUIET = {
    # Or every run would resolve and download torch anew.
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
}
OWN_CODE = {
    # Or `python -m client` in a folder that an app may write to would import what it planted there.
    "PYTHONSAFEPATH": "1",
}
PROMPT = {
    # How often a SuperExec asks for work: with Flower's 1 s, each message waits for half of it;
    # asked ten times a second, a node and its app's process use a twentieth of a core for nothing.
    "FLWR_SUPEREXEC_TASK_POLL_INTERVAL": "0.5",
}


def executable(name: str) -> Path:
    """Return a command of this environment; a link to python is not followed."""
    return Path(sys.executable).absolute().parent / name


def flower_environment() -> dict[str, str]:
    """Return this process's environment with `QUIET`, `OWN_CODE` and Flower's commands on the path.

    What `PROMPT` says goes where the environment says nothing else.
    """
    path = os.pathsep.join([str(executable("")), os.environ.get("PATH", os.defpath)])
    return {**PROMPT, **os.environ, **QUIET, **OWN_CODE, "PATH": path}
