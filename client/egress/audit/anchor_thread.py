"""Thread that ships anchors from a running node: at its start, and after every so many entries."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from client.egress.audit.hash_chain import Anchor
from client.egress.audit.signed_anchor import SignedAnchor
from common.errors import FedvitalsError

log = logging.getLogger("fedvitals.anchors")


class AnchorThread:
    """Ships anchors in the background, so that no message waits for it.

    If shipping fails, the node's log says so and the next anchor is tried when it is due. Pass
    `on_append` to `AuditLog`, and call `start` once that is open.

    Args:
        ship: ships an anchor: `ship_anchor` with its arguments bound.
        every: number of entries after which the next anchor is due.
    """

    def __init__(self, ship: Callable[[], SignedAnchor], every: int) -> None:
        self._ship = ship
        self._every = every
        self._due = threading.Event()
        self._since = 0

    def start(self) -> None:
        """Start the thread, and ship a first anchor."""
        threading.Thread(target=self._run, name="anchors", daemon=True).start()
        self._due.set()

    def on_append(self, _anchor: Anchor) -> None:
        """Count an entry; returns at once and raises nothing."""
        self._since += 1
        if self._since >= self._every:
            self._since = 0
            self._due.set()

    def _run(self) -> None:
        while True:
            self._due.wait()
            self._due.clear()
            try:
                shipped = self._ship()
            except FedvitalsError as problem:
                log.error("the audit log's anchor was not shipped: %s", problem)
            except Exception as problem:  # an unforeseen error must not end the thread
                log.error("the audit log's anchor was not shipped: %s", type(problem).__name__)
            else:
                log.info("the audit log's anchor of %d lines was shipped", shipped.lines)
