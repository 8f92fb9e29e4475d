"""Deadline by which the app must reply to the request in work."""

from __future__ import annotations

import math
import time

SHORTEST_S, LONGEST_S = 10.0, 86_400.0
"""Bounds of the time that an app has, whatever the server requests."""


class ReplyDeadline:
    """Deadline of the request in work, shared with a thread that watches it.

    Flower waits for a reply without a limit, and takes no other message meanwhile.
    """

    def __init__(self) -> None:
        self._until = math.inf

    def set(self, seconds: float) -> None:
        """Start the deadline of a request."""
        limit = LONGEST_S if math.isnan(seconds) else min(max(seconds, SHORTEST_S), LONGEST_S)
        self._until = time.monotonic() + limit

    def clear(self) -> None:
        """Remove the deadline: no request is in work."""
        self._until = math.inf

    @property
    def runs(self) -> bool:
        """True while a request is in work."""
        return self._until < math.inf

    @property
    def passed(self) -> bool:
        """True if a reply would be too late."""
        return time.monotonic() > self._until
