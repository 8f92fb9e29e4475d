"""A site's node: Flower's SuperNode with the gate, which exits rather than hangs.

One process holds the connection, the gate and the audit log. The app runs in another process, which
the site's service manager starts (``isolation = "process"``) or this node (``"subprocess"``). The
app can reach only the node's local interface.

Exit codes: 0 after a signal; `NodeError.exit_code` if somebody has to fix something; `LOST` if
Flower has given up, so that systemd or a container engine restarts the node.
"""

from __future__ import annotations

import logging
import os
import secrets
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import IO, Any, NoReturn

from cryptography.hazmat.primitives.asymmetric import ec
from flwr.supercore.object_store import ObjectStoreFactory
from flwr.supernode import start_client_internal
from flwr.supernode.nodestate import NodeStateFactory

from client.config.node_key import read_node_key
from client.config.site_config import SiteConfig
from client.config.site_facts import site_facts
from client.egress.audit.anchor_shipping import AnchorDestination, ship_anchor
from client.egress.audit.anchor_thread import AnchorThread
from client.egress.audit.audit_log import AuditLog
from client.egress.gate import Gate
from client.node.flower_patches import LastConnectionError, check_flower_version, patched_flower
from client.node.health import Heartbeat, serve_health
from client.node.isolation.linux import hide_memory
from client.node.local_api import serve_local_api
from client.node.min_patients import require_min_patients
from client.node.node_log import set_up_log
from client.node.reply_deadline import ReplyDeadline
from client.node.statistics.answers import StatisticsAnswers
from client.policy.file_ownership import check_own_file
from client.policy.policy import PolicyFile
from common.backbones.weights_store import install_packaged
from common.errors import AuditError, NodeError
from common.files.private import make_private_folder
from common.flower.environment import flower_environment

LOST = 70
"""Exit code if the connection is lost for good: restart the node."""

_POLL_S = 1.0

log = logging.getLogger("fedvitals.node")


def run_node(config: SiteConfig) -> NoReturn:
    """Run a site's node until it receives a signal to stop.

    Raises:
        PolicyError: if the policy cannot be read, or other users can change it.
        AuditError: if the audit log cannot be written, or has been changed.
        NodeError: if the key, the CA or an address cannot be used, or the coordinator does not
            accept this site.
    """
    check_flower_version()
    os.environ.update(flower_environment())
    policy = PolicyFile(config.site.policy, own=True)
    patients = require_min_patients(config, policy.current())
    check_own_file(config.node.key, "node.key", NodeError)
    key, ca = read_node_key(config.node.key), _read(config.server.ca, "server.ca")
    anchors = _anchor_thread(config, key)
    audit = AuditLog(config.audit_log, None if anchors is None else anchors.on_append)
    set_up_log(config.log)
    if anchors is not None:
        anchors.start()
    heartbeat, connection_error, deadline = Heartbeat(), LastConnectionError(), ReplyDeadline()
    threading.excepthook = lambda failure: _thread_died(failure, connection_error)
    health = serve_health(config.node.health, heartbeat)
    objects = ObjectStoreFactory()
    state = NodeStateFactory(objectstore_factory=objects)
    statistics = StatisticsAnswers(config.site.table, config.site.state)
    gate = Gate(site_facts(config, patients), policy.current, audit, statistics)
    _watch_deadline(deadline)
    patches = patched_flower(
        gate, objects.store(), heartbeat, connection_error, deadline, _without_audit_log
    )
    with _app_process(config, state), patches:
        log.info("site %s starts, %d app bundles may run", config.site.id, _approved(policy))
        try:
            start_client_internal.start_client_internal(
                state_factory=state,
                server_address=str(config.server.address),
                node_config=dict(config.node_config()),
                root_certificates=ca,
                insecure=False,
                authentication_keys=(key, key.public_key()),
                isolation="process",  # Flower starts no process of its own
                # Not empty, so that Flower calls `_verify_fab`, which applies the site's policy.
                trusted_entities={"policy": "the site's own"},
            )
        except SystemExit as stop:
            if connection_error.reason is None:
                raise
            raise NodeError(connection_error.reason) from stop
    health.stop(None)  # referenced until here: gRPC ends a server without references
    _end(connection_error, "the connection to the coordinator is lost for good")


def _anchor_thread(config: SiteConfig, key: ec.EllipticCurvePrivateKey) -> AnchorThread | None:
    """Return the thread that ships the audit log's anchors; None without a destination."""
    to, state = config.audit.anchor_to, config.site.state
    if not to:
        return None
    AnchorDestination.parse(to, state)  # an invalid destination stops the start
    ship = partial(
        ship_anchor, config.audit_log, config.site.id, key, to, ca=config.audit.anchor_ca
    )
    return AnchorThread(ship, config.audit.anchor_every)


def _thread_died(failure: Any, connection_error: LastConnectionError) -> None:
    """Exit if a thread dies: without its heartbeat a node looks healthy but takes no part."""
    log.error("a thread ended: %s", getattr(failure.exc_type, "__name__", "unknown"))
    _end(connection_error, "a part of the node has stopped")


def _watch_deadline(deadline: ReplyDeadline) -> None:
    """Exit if the app hangs or is missing, and the server no longer waits for its reply."""

    def watch() -> None:
        while not deadline.passed:
            time.sleep(_POLL_S)
        log.error("the app did not reply before the deadline; the node exits, to be restarted")
        logging.shutdown()
        os._exit(LOST)

    threading.Thread(target=watch, name="deadline", daemon=True).start()


@contextmanager
def _app_process(config: SiteConfig, state: NodeStateFactory) -> Iterator[None]:
    """Serve the local interface, and start the app's process if no service manager does."""
    node = config.node
    hide_memory()  # it holds the key
    if node.isolation == "process":
        secret = _read(node.secret, "node.secret") if node.secret is not None else None
        serve_local_api(node.client_api, state, secret, node.client_api_tls)
        yield
        return
    install_packaged()  # an app bundle carries no weights
    make_private_folder(config.site.state)
    secret = secrets.token_bytes(32)
    serve_local_api(node.client_api, state, secret)
    with _private(config.site.state / "app.log") as output:
        process = subprocess.Popen(  # noqa: S603 (our own interpreter and our own arguments)
            _app_command(config),
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=flower_environment(),
        )
    _send_secret(process, secret)
    threading.Thread(target=_exit_with, args=(process,), name="app-watch", daemon=True).start()
    try:
        yield
    finally:
        process.terminate()


def _app_command(config: SiteConfig) -> list[str]:
    # The app runs as this user: these files must be hidden from it.
    hidden = (config.node.key, config.site.policy)
    return [
        *(sys.executable, "-P", "-m", "client.node.isolation.app_process"),
        *(str(config.node.client_api), str(os.getpid()), *map(str, hidden)),
    ]


def _send_secret(process: subprocess.Popen[bytes], secret: bytes) -> None:
    """Send the secret to the app's process by a pipe: the app could read a file."""
    if process.stdin is None:
        raise NodeError("the app's process has no standard input for the secret")
    with process.stdin as pipe:
        pipe.write(secret)


def _private(path: Path) -> IO[bytes]:
    """Create a file that only its owner may read: the app's output may name patients."""
    path.unlink(missing_ok=True)
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")


def _exit_with(process: subprocess.Popen[bytes]) -> None:
    code = process.wait()
    log.error("the app's process ended with code %d; the node exits too", code)
    os._exit(LOST)


def _approved(policy: PolicyFile) -> int:
    current, now = policy.current(), datetime.now(UTC)
    return sum(current.refusal(bundle, now) is None for bundle in current.bundles)


def _without_audit_log(problem: AuditError) -> NoReturn:
    """Exit: Flower would treat the exception as a failed transfer, and continue."""
    log.error("%s; the node exits", problem)
    print(f"error: {problem}", file=sys.stderr, flush=True)
    logging.shutdown()
    os._exit(problem.exit_code)


def _end(connection_error: LastConnectionError, otherwise: str) -> NoReturn:
    """Exit at once: Flower's threads would keep the process alive."""
    log.error("%s; the node exits, to be restarted", connection_error.reason or otherwise)
    logging.shutdown()
    os._exit(NodeError.exit_code if connection_error.reason else LOST)


def _read(path: Path, what: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as problem:
        raise NodeError(f"{what} = {path} cannot be read: {problem.strerror}") from problem
