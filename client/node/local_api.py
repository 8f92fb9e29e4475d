"""The node's local HTTP interface, where the app's process pulls its task and pushes its reply.

Flower serves more there than a training app needs: creating tasks that call models on the internet,
connectors, logs. Only the calls of a training app are allowed.
"""

from __future__ import annotations

import ssl
import threading
import time

import uvicorn
from flwr.supernode.main import create_app
from flwr.supernode.nodestate import NodeStateFactory

from client.config.node_section import Address, ClientApiTls
from common.errors import NodeError
from common.flower.asgi import App, Receive, Scope, Send
from common.flower.request_size_limit import limit_request_size

PREFIX = "/v1/runtime/"
ALLOWED = frozenset(
    {
        "acquire-task",
        "confirm-message-received",
        "pull-messages",
        "pull-object",
        "pull-task-input",
        "push-messages",
        "push-object",
        "push-task-output",
        "send-task-heartbeat",
    }
)
"""Calls that `flower-superexec` and `flwr-clientapp` make for a training app."""

START_S = 30.0


def allow_app_calls(app: App) -> App:
    """Return a web application (ASGI) that answers 403 to all calls except `ALLOWED`."""

    async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
        path = str(scope.get("path", ""))
        allowed = path.startswith(PREFIX) and path[len(PREFIX) :] in ALLOWED
        if scope["type"] == "lifespan" or (scope["type"] == "http" and allowed):
            await app(scope, receive, send)
        elif scope["type"] == "http":
            await send({"type": "http.response.start", "status": 403, "headers": []})
            await send({"type": "http.response.body", "body": b""})

    return guarded


def serve_local_api(
    address: Address,
    state: NodeStateFactory,
    secret: bytes | None,
    tls: ClientApiTls | None = None,
) -> tuple[uvicorn.Server, threading.Thread]:
    """Start the interface in a new thread.

    Args:
        address: the address to listen on.
        state: the node's state.
        secret: secret that the app's process must prove to know for a task; None = none.
        tls: certificate that the app's process checks first; None = plain HTTP.

    Raises:
        NodeError: if the address, the certificate or its key cannot be used.
    """
    config = uvicorn.Config(
        app=allow_app_calls(
            limit_request_size(create_app(state_factory=state, superexec_auth_secret=secret))
        ),
        host=address.host,
        port=address.port,
        access_log=False,
        log_config=None,
    )
    if tls is not None:
        context = server_context(tls)
        config.ssl_context_factory = lambda _config, _default: context
    server = uvicorn.Server(config)
    thread = threading.Thread(target=_run, args=(server,), name="local-api", daemon=True)
    thread.start()
    deadline = time.monotonic() + START_S
    while thread.is_alive() and not server.started and time.monotonic() < deadline:
        time.sleep(0.05)
    if not server.started:
        raise NodeError(
            f"node.client-api = {address} cannot be used; is another node running on this machine?"
        )
    return server, thread


def server_context(tls: ClientApiTls) -> ssl.SSLContext:
    """Return the TLS context of the node's side; TLS 1.3 only, since both sides are ours.

    Raises:
        NodeError: if the certificate or its key cannot be read, or do not belong together.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    try:
        context.load_cert_chain(tls.certificate, tls.key)
    except OSError as problem:  # includes ssl.SSLError
        raise NodeError(
            f"node.client-api-certificate = {tls.certificate} and node.client-api-key = {tls.key} "
            f"cannot be used: {problem.strerror or problem}; make a new pair with "
            "deploy/certs/local-api.sh"
        ) from problem
    return context


def _run(server: uvicorn.Server) -> None:
    try:
        server.run()
    except SystemExit:  # uvicorn exits if the port is in use
        return
