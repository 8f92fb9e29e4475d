"""Authentication and log of the calls to the SuperLink's control API.

Flower serves the APIs for sites (fleet), for apps (runtime) and for operators (control) on one
port. The first two have authentication of their own: a node's signed key, the SuperExec's secret.
The third has none: every user of the machine could start a run at every hospital. A path of none of
the three needs a credential too.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable

from common.flower.asgi import App, Message, Receive, Scope, Send
from server.deployment.control_log import ControlLog
from server.deployment.operators import Operators

log = logging.getLogger("fedvitals.superlink")

CONTROL = "/v1/control/"
OPEN = ("/v1/fleet/", "/v1/runtime/")
"""APIs with authentication of their own."""
OPEN_EXACT = frozenset({"/health"})
_HOST = re.compile(rb"[A-Za-z0-9._:\[\]-]*")
"""Flower parses a request's path out of a URL that begins with the Host header."""
START_RUN = "start-run"
REASON = (
    "the control API of this SuperLink needs an operator's credential; use `python -m server` with "
    "--operator FILE, which `python -m server operators add` makes"
)
_MAX_RESPONSE_BYTES = 1 << 20

RunIdOf = Callable[[bytes], str]
"""Parses the run's id from the response to `START_RUN`."""


def require_credential(
    app: App, operators: Operators, control: ControlLog, run_id_of: RunIdOf
) -> App:
    """Return the SuperLink's web application with authentication of operators.

    Args:
        app: Flower's application.
        operators: accounts that may call the control API.
        control: log of the calls.
        run_id_of: see `RunIdOf`.
    """

    async def guard(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not _has_plain_host(scope):
            await _refuse(send, 400, "the request's Host is not a host name")
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
        logging_send = _LoggingSend(control, operator, method, send, run_id_of)
        await app(_without_credential(scope), receive, logging_send.send)

    return guard


class _LoggingSend:
    """Logs a call when its status is known, before the caller receives the response.

    The response to the start of a run is held back until it is complete: it has the run's id.
    """

    def __init__(
        self, control: ControlLog, operator: str, method: str, send: Send, run_id_of: RunIdOf
    ) -> None:
        self._control = control
        self._operator = operator
        self._method = method
        self._send = send
        self._run_id_of = run_id_of
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
        if whole or sum(map(len, bodies)) > _MAX_RESPONSE_BYTES:
            status = next((held["status"] for held in self._held if "status" in held), 0)
            if status:
                self._note(status, self._run_id_of(b"".join(bodies)) if status == 200 else "")
            for held in self._held:
                await self._send(held)
            self._held = []

    def _note(self, status: int, run: str = "") -> None:
        try:
            self._control.note(self._operator, self._method, status, run)
        except OSError:  # check() could open it: the disk is full
            log.exception("%s called %s, which could not be logged", self._operator, self._method)


def _has_plain_host(scope: Scope) -> bool:
    # With a slash or a question mark in Host, Flower would check one path and serve another.
    hosts = [value for name, value in scope.get("headers", ()) if name.lower() == b"host"]
    return all(_HOST.fullmatch(host) for host in hosts)


def _is_open(scope: Scope) -> bool:
    path = str(scope.get("path", ""))
    return path in OPEN_EXACT or path.startswith(OPEN)


def _bearer(scope: Scope) -> str:
    """Return the request's credential, empty if it has none or several."""
    given = [value for name, value in scope.get("headers", ()) if name.lower() == b"authorization"]
    if len(given) != 1:
        return ""
    scheme, _, credential = given[0].decode("latin-1").partition(" ")
    return credential.strip() if scheme.lower() == "bearer" else ""


def _without_credential(scope: Scope) -> Scope:
    """Return the request without its credential, which Flower does not need."""
    headers = [pair for pair in scope.get("headers", ()) if pair[0].lower() != b"authorization"]
    return {**scope, "headers": headers}


async def _refuse(send: Send, status: int, reason: str) -> None:
    # In the format of Flower's errors: its own command shows the reason.
    body = json.dumps({"code": status, "detail": reason}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    if status == 401:
        headers.append((b"www-authenticate", b'Bearer realm="fedvitals"'))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
