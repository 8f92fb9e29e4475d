from __future__ import annotations

import asyncio
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any

import pytest

from client.config.node_section import ClientApiTls
from client.node.local_api import ALLOWED, PREFIX, allow_app_calls, server_context
from common.errors import NodeError
from tests.integration.setup.deployed import script


def ask(path: str, kind: str = "http") -> tuple[list[str], list[dict[str, Any]]]:
    """Return the paths that reached Flower, and the responses sent instead."""
    passed: list[str] = []
    answers: list[dict[str, Any]] = []

    async def flower(scope: Any, _receive: Any, _send: Any) -> None:
        passed.append(str(scope.get("path")))

    async def receive() -> MutableMapping[str, Any]:
        return {}

    async def send(answer: MutableMapping[str, Any]) -> None:
        answers.append(dict(answer))

    async def call() -> None:
        await allow_app_calls(flower)({"type": kind, "path": path}, receive, send)

    asyncio.run(call())
    return passed, answers


@pytest.mark.parametrize("name", sorted(ALLOWED))
def test_what_a_training_app_calls_passes(name: str) -> None:
    assert ask(f"{PREFIX}{name}") == ([f"{PREFIX}{name}"], [])


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/docs",
        "/v1/runtime/create-task",
        "/v1/runtime/push-logs",
        "/v1/runtime/acquire-task/",
        "/v1/runtime/../fleet/push-messages",
        "/v1/control/start-run",
        "v1/runtime/acquire-task",
    ],
)
def test_everything_else_is_forbidden(path: str) -> None:
    passed, answers = ask(path)
    assert passed == []
    assert answers[0]["status"] == 403


def test_a_socket_gets_no_answer_at_all() -> None:
    assert ask(f"{PREFIX}acquire-task", "websocket") == ([], [])


def test_a_certificate_without_its_own_key_is_not_served(tmp_path: Path) -> None:
    for name in ("one", "other"):
        script("local-api.sh", tmp_path / name)
    certificate, key = tmp_path / "one" / "client-api.crt", tmp_path / "other" / "client-api.key"
    with pytest.raises(NodeError, match=r"(?s)key values mismatch.*deploy/certs/local-api\.sh"):
        server_context(ClientApiTls(certificate, key, certificate))
    with pytest.raises(NodeError, match="cannot be used: No such file"):
        server_context(ClientApiTls(certificate, tmp_path / "absent.key", certificate))
