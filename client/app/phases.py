"""How long each part of a message's work took, for the site's own log; none of it is sent."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import psutil


class Phases:
    """Seconds by phase, in the order in which they came.

    The first, `start`, is what has passed since the process began: in a deployment, where each
    message has a process of its own, that is its start, its imports and fetching the message.
    """

    def __init__(self) -> None:
        self.seconds = {"start": time.time() - psutil.Process().create_time()}

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Measure a block."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = time.perf_counter() - began

    def text(self, more: Mapping[str, float]) -> str:
        """Return all phases, and others that were measured elsewhere, as one line."""
        return ", ".join(f"{name} {s:.2f} s" for name, s in {**self.seconds, **more}.items())
