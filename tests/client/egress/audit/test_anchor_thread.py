"""The node ships anchors by itself."""

from __future__ import annotations

import logging
import threading
from pathlib import Path

import pytest

from client.egress.audit.anchor_thread import AnchorThread
from client.egress.audit.audit_log import AuditLog
from client.egress.audit.signed_anchor import SignedAnchor
from tests.client.egress.audit.anchors import checked, ship


def test_the_node_ships_by_itself_and_goes_on_where_it_cannot(
    log: Path, file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shipped, failing = threading.Semaphore(0), threading.Event()

    def one() -> SignedAnchor:
        try:
            if failing.is_set():
                raise ValueError("a patient's name")
            return ship(log, file)
        finally:
            shipped.release()

    anchoring = AnchorThread(one, every=3)
    audit = AuditLog(log, anchoring.on_append)
    with caplog.at_level(logging.INFO, "fedvitals.anchors"):
        anchoring.start()
        assert shipped.acquire(timeout=30)
        failing.set()
        for _ in range(3):
            audit.append({"decision": "sent"})
        assert shipped.acquire(timeout=30)
        failing.clear()
        for _ in range(3):
            audit.append({"decision": "sent"})
        assert shipped.acquire(timeout=30)
    assert checked(log, file) == 2
    assert "not shipped: ValueError" in caplog.text
    assert "patient" not in caplog.text
