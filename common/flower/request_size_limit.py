"""Size limit of a request's body, enforced before the web application reads it.

Flower reads a body whole before it authenticates the sender: anyone who reaches the port could fill
the process's memory. A request larger than any call of Flower's own is refused, or cut off if its
length was not stated.
"""

from __future__ import annotations

from common.flower.asgi import App, Message, Receive, Scope, Send

MOST_BYTES = 32 * 2**20
"""Flower sends arrays in pieces of 5 MiB, and app bundles of 10 MiB at most."""


def limit_request_size(app: App, most: int = MOST_BYTES) -> App:
    """Return a web application (ASGI) that limits the body of each request.

    Args:
        app: the application behind the limit.
        most: bytes of a request's body. A request that states more gets status 413. One that sends
            more than it stated looks to `app` as if its sender had disconnected.
    """

    async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await app(scope, receive, send)
        elif _content_length(scope) > most:
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


def _content_length(scope: Scope) -> int:
    """Return the length that the request states, 0 if none."""
    lengths = [
        value for name, value in scope.get("headers", ()) if name.lower() == b"content-length"
    ]
    return max((int(value) for value in lengths if value.isdigit() and len(value) < 20), default=0)
