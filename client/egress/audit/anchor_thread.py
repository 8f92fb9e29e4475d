"""Anchors that the node ships by itself: when it starts, and after every so many lines."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from client.egress.audit.audit_log import Anchor
from client.egress.audit.signed_anchor import SignedAnchor
from common.errors import FedvitalsError

log = logging.getLogger("fedvitals.anchors")


class Anchoring:
    """Ships anchors from a thread of its own, so that no message waits for it.

    A place that does not answer stops nothing: the log says so, and the next anchor is tried when
    it is due. Give `wrote` to `AuditLog`, and call `begin` once that is open.

    Args:
        ship: what ships an anchor: `ship_anchor` with its arguments filled in.
        every: after how many lines the next is due.
    """

    def __init__(self, ship: Callable[[], SignedAnchor], every: int) -> None:
        self._ship = ship
        self._every = every
        self._due = threading.Event()
        self._since = 0

    def begin(self) -> None:
        """Ship a first anchor, and from now on one each time that enough lines were written."""
        threading.Thread(target=self._run, name="anchors", daemon=True).start()
        self._due.set()

    def wrote(self, _anchor: Anchor) -> None:
        """Take notice of a line; returns at once and raises nothing."""
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
            except Exception as problem:  # the thread must outlive what nobody thought of
                log.error("the audit log's anchor was not shipped: %s", type(problem).__name__)
            else:
                log.info("the audit log's anchor of %d lines was shipped", shipped.lines)
