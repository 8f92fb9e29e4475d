"""The two nginx.conf of deploy/, as processes on loopback."""

from __future__ import annotations

import shutil
import socket
import time
from pathlib import Path

from tests.integration.setup.deployed import REPOSITORY

NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")


def write_config(role: str, folder: Path, values: dict[str, str]) -> Path:
    """nginx.conf of a role with other paths, ports and names, each of which has to stand in it."""
    text = (REPOSITORY / "deploy" / role / "nginx.conf").read_text()
    for old, new in {"/tmp/fedvitals": f"{folder}/fedvitals", **values}.items():
        assert old in text, old
        text = text.replace(old, new)
    path = folder / "nginx.conf"
    path.write_text(text)
    return path


def command_of(config: Path) -> list[str]:
    """Return the command of containers and units, without its foreground option."""
    return [str(NGINX), "-e", "stderr", "-c", str(config)]


def wait_for_port(port: int) -> None:
    deadline = time.monotonic() + 20
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            assert time.monotonic() < deadline, f"nothing listens on {port}"
            time.sleep(0.05)
