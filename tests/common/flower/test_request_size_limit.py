"""A body passes up to the limit only, with and without a stated length."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from common.flower.request_size_limit import limit_request_size

MOST = 10


def ask(
    parts: list[bytes], headers: list[tuple[bytes, bytes]]
) -> tuple[list[str], bytes, list[int]]:
    """Return the types of the application's messages, the body that it read, and sent statuses."""
    types: list[str] = []
    read: list[bytes] = []
    statuses: list[int] = []
    waiting = list(parts)

    async def application(_scope: Any, receive: Any, _send: Any) -> None:
        while True:
            message = await receive()
            types.append(message["type"])
            read.append(message.get("body", b""))
            if not message.get("more_body"):
                return

    async def receive() -> dict[str, Any]:
        part = waiting.pop(0)
        return {"type": "http.request", "body": part, "more_body": bool(waiting)}

    async def send(message: Any) -> None:
        if "status" in message:
            statuses.append(message["status"])

    async def call() -> None:
        await limit_request_size(application, MOST)(
            {"type": "http", "headers": headers}, receive, send
        )

    asyncio.run(call())
    return types, b"".join(read), statuses


def test_what_is_within_the_bound_passes_as_it_is() -> None:
    told = [(b"content-length", b"10")]
    assert ask([b"12345", b"67890"], told) == (["http.request"] * 2, b"1234567890", [])
    assert ask([b""], []) == (["http.request"], b"", [])


@pytest.mark.parametrize("told", [b"11", b"999999999999"])
def test_a_body_that_says_that_it_is_larger_is_not_read(told: bytes) -> None:
    assert ask([b"1"], [(b"Content-Length", told)]) == ([], b"", [413])


def test_a_body_that_does_not_say_so_is_cut_off() -> None:
    types, read, _ = ask([b"12345"] * 1000, [(b"transfer-encoding", b"chunked")])
    assert types == ["http.request", "http.request", "http.disconnect"]
    assert len(read) == MOST


def test_what_is_no_request_passes() -> None:
    seen: list[str] = []

    async def application(scope: Any, _receive: Any, _send: Any) -> None:
        seen.append(scope["type"])

    async def nothing(*_: Any) -> Any:
        return {}

    async def call() -> None:
        await limit_request_size(application, MOST)({"type": "lifespan"}, nothing, nothing)

    asyncio.run(call())
    assert seen == ["lifespan"]
