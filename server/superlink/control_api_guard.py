"""Lets nobody call the control API without a credential, and notes who called what.

Flower serves the APIs for sites (fleet), for apps (runtime) and for operators (control) on one
port. The first two have proofs of their own: a node's signed key, the SuperExec's secret. The third
has none: every user of the machine could start a run at every hospital. What is none of the three
is refused as the third.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from server.deployment.control_log import ControlLog
from server.deployment.operators import Operators

log = logging.getLogger("fedvitals.superlink")

CONTROL = "/v1/control/"
OPEN = ("/v1/fleet/", "/v1/runtime/")
"""They ask for proofs of their own."""
OPEN_EXACT = frozenset({"/health"})
_HOST = re.compile(rb"[A-Za-z0-9._:\[\]-]*")
"""Flower reads the path of a request from an address that begins with this header."""
START_RUN = "start-run"
REASON = (
    "the control API of this SuperLink needs an operator's credential; use `python -m server` with "
    "--operator FILE, which `python -m server operators add` makes"
)
_MOST_ANSWER_BYTES = 1 << 20

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
RunOf = Callable[[bytes], str]
"""Reads the run's id from the answer to `START_RUN`."""


def guarded(app: App, operators: Operators, control: ControlLog, run_of: RunOf) -> App:
    """Return the SuperLink's web application behind a check of operators.

    Args:
        app: Flower's.
        operators: who may call the control API.
        control: where the calls are noted.
        run_of: see `RunOf`.
    """

    async def guard(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not _is_plain(scope):
            await _refuse(send, 400, "the request's Host is no name of a host")
        elif scope["type"] == "lifespan" or (scope["type"] == "http" and _is_open(scope)):
            await app(scope, receive, send)
        elif scope["type"] == "http":
            await _control(scope, receive, send)

    async def _control(scope: Scope, receive: Receive, send: Send) -> None:
        method = str(scope.get("path", "")).removeprefix(CONTROL)
        credential = _bearer(scope)
        operator = operators.identify(credential) if credential else None
        try:
            if operator is None:
                control.note_refused(method, 401)
                await _refuse(send, 401, REASON)
                return
            control.check()
        except OSError:
            log.exception("the log of the control API cannot be written")
            await _refuse(send, 503, "the log of the control API cannot be written")
            return
        noting = _Noting(control, operator, method, send, run_of)
        await app(_without_credential(scope), receive, noting.send)

    return guard


class _Noting:
    """Notes a call once its status is known, before the caller learns it.

    The answer to the start of a run is held until it is whole: the run's id stands in it.
    """

    def __init__(
        self, control: ControlLog, operator: str, method: str, send: Send, run_of: RunOf
    ) -> None:
        self._control = control
        self._operator = operator
        self._method = method
        self._send = send
        self._run_of = run_of
        self._held: list[Message] = []

    async def send(self, message: Message) -> None:
        if self._method != START_RUN:
            if message["type"] == "http.response.start":
                self._note(message["status"])
            await self._send(message)
            return
        self._held.append(message)
        bodies = [bytes(held.get("body", b"")) for held in self._held]
        whole = message["type"] == "http.response.body" and not message.get("more_body", False)
        if whole or sum(map(len, bodies)) > _MOST_ANSWER_BYTES:
            status = next((held["status"] for held in self._held if "status" in held), 0)
            if status:
                self._note(status, self._run_of(b"".join(bodies)) if status == 200 else "")
            for held in self._held:
                await self._send(held)
            self._held = []

    def _note(self, status: int, run: str = "") -> None:
        try:
            self._control.note(self._operator, self._method, status, run)
        except OSError:  # it could be opened a moment ago: the disk is full
            log.exception("%s called %s, which could not be noted", self._operator, self._method)


def _is_plain(scope: Scope) -> bool:
    # With a slash and a question mark in it, what Flower checks would not be what it then does.
    hosts = [value for name, value in scope.get("headers", ()) if name.lower() == b"host"]
    return all(_HOST.fullmatch(host) for host in hosts)


def _is_open(scope: Scope) -> bool:
    path = str(scope.get("path", ""))
    return path in OPEN_EXACT or path.startswith(OPEN)


def _bearer(scope: Scope) -> str:
    """The credential of the request; empty where it has none, or more than one."""
    given = [value for name, value in scope.get("headers", ()) if name.lower() == b"authorization"]
    if len(given) != 1:
        return ""
    scheme, _, credential = given[0].decode("latin-1").partition(" ")
    return credential.strip() if scheme.lower() == "bearer" else ""


def _without_credential(scope: Scope) -> Scope:
    """The request without what Flower has no use for."""
    headers = [pair for pair in scope.get("headers", ()) if pair[0].lower() != b"authorization"]
    return {**scope, "headers": headers}


async def _refuse(send: Send, status: int, reason: str) -> None:
    # As Flower writes its errors, so that its own command shows the reason.
    body = json.dumps({"code": status, "detail": reason}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    if status == 401:
        headers.append((b"www-authenticate", b'Bearer realm="fedvitals"'))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
