"""A bound on the body of a request, before the web application behind it reads any.

Flower reads a body whole before it asks who sends it: whoever reaches the port could have the
process's memory filled. What is larger than any call of Flower's own is refused, or cut off where
its length was not told.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

MOST_BYTES = 32 * 2**20
"""Flower sends arrays in pieces of 5 MiB, and app bundles of 10 MiB at most."""

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


def bounded(app: App, most: int = MOST_BYTES) -> App:
    """Return a web application (ASGI) that takes no body of more than some bytes.

    Args:
        app: what is asked.
        most: bytes of a request's body. One that says that it has more is answered 413; one that
            does not, and has, is to `app` as one whose sender has gone.
    """

    async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await app(scope, receive, send)
        elif _told(scope) > most:
            await send({"type": "http.response.start", "status": 413, "headers": []})
            await send({"type": "http.response.body", "body": b""})
        else:
            await app(scope, _counted(receive, most), send)

    return guarded


def _counted(receive: Receive, most: int) -> Receive:
    taken = 0

    async def counting() -> Message:
        nonlocal taken
        if taken > most:
            return {"type": "http.disconnect"}
        message = await receive()
        taken += len(message.get("body", b""))
        return {"type": "http.disconnect"} if taken > most else message

    return counting


def _told(scope: Scope) -> int:
    """The length that the request states, 0 where it states none."""
    lengths = [
        value for name, value in scope.get("headers", ()) if name.lower() == b"content-length"
    ]
    return max((int(value) for value in lengths if value.isdigit() and len(value) < 20), default=0)
