"""Ports for the tests' servers."""

from __future__ import annotations

import itertools
import os
import socket

# Below the ports that the kernel gives to outgoing connections, which could take one between its
# being chosen and its being listened to; and a range for each of pytest's workers, likewise.
_worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
_ports = itertools.count(10_000 + 4_000 * _worker)


def free_port() -> int:
    """Return a port of this machine that nothing listens on, and that was not given before."""
    return next(filter(_is_free, _ports))


def free_ports(count: int) -> list[int]:
    """Return several."""
    return [free_port() for _ in range(count)]


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
