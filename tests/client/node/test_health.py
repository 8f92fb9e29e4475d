from __future__ import annotations

import pytest

from client.config.node_section import Address
from client.node.health import Heartbeat, ask_health, serve_health
from tests.samples.ports import free_port


def test_it_serves_only_once_the_coordinator_has_answered() -> None:
    address, pulse = Address("127.0.0.1", free_port()), Heartbeat()
    server = serve_health(address, pulse)
    try:
        assert not ask_health(address)
        pulse.beat()
        assert ask_health(address)
    finally:
        server.stop(None).wait()
    assert not ask_health(address, 1.0)


def test_a_coordinator_that_has_fallen_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    address, pulse = Address("127.0.0.1", free_port()), Heartbeat()
    pulse.beat()
    monkeypatch.setattr(pulse, "age_s", lambda: 91.0)
    server = serve_health(address, pulse)
    try:
        assert not ask_health(address)
    finally:
        server.stop(None).wait()
