"""The time that an app has for its answer."""

from __future__ import annotations

import math
import time

SHORTEST_S, LONGEST_S = 10.0, 86_400.0
"""Time that an app has at least and at most, whatever the server says."""


class Deadline:
    """Until when an answer to the message in work is of use; shared with a thread that watches it.

    Flower waits for an answer for ever, and takes no other message meanwhile.
    """

    def __init__(self) -> None:
        self._until = math.inf

    def set(self, seconds: float) -> None:
        """Begin to count."""
        asked = LONGEST_S if math.isnan(seconds) else min(max(seconds, SHORTEST_S), LONGEST_S)
        self._until = time.monotonic() + asked

    def clear(self) -> None:
        """Nothing is in work."""
        self._until = math.inf

    @property
    def runs(self) -> bool:
        """Whether a message is in work."""
        return self._until < math.inf

    @property
    def passed(self) -> bool:
        """Whether an answer would come too late."""
        return time.monotonic() > self._until
