"""Ports for the tests' servers."""

from __future__ import annotations

import itertools
import random
import socket
from collections.abc import Iterator

# Below the ports that the kernel gives to outgoing connections, which could take one between its
# being chosen and its being listened to. Each process begins somewhere else, likewise.
_RANGE = range(10_000, 32_000)
_start: int = random.SystemRandom().randrange(len(_RANGE))
_ports: Iterator[int] = itertools.cycle([*_RANGE[_start:], *_RANGE[:_start]])


def free_port() -> int:
    """Return a port of this machine that nothing listens on, another one each time."""
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
