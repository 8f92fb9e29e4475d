"""A man in the middle between a site's app and its node can neither read tasks nor give any.

A node's real local interface with its certificate, and the app's real process. The stranger has a
certificate of the same names, made by the same script, but not the node's.
"""

from __future__ import annotations

import socket
import ssl
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest
from flwr.proto.runtime_pb2 import AcquireTaskRequest
from flwr.supercore.constant import TaskType
from flwr.supercore.interceptors import SuperExecAuthHttpInterceptor
from flwr.supercore.object_store import ObjectStoreFactory
from flwr.supercore.protobuf.constants import PROTOBUF_MEDIA_TYPE
from flwr.supercore.runtime import RuntimeHttpClient
from flwr.supernode.nodestate import NodeStateFactory

from client.config.node_section import Address, ClientApiTls
from client.config.site_config import load_site_config
from client.node.local_api import serve_local_api
from common.errors import UsageError
from common.flower.request_size_limit import MOST_BYTES
from tests.integration.setup.deployed import script
from tests.integration.setup.gate_setting import environment, running
from tests.integration.setup.processes import wait_for
from tests.samples.ports import free_port

SECRET = b"a secret that node and app share"
SITE = """[site]
id = "hosp1"
table = "site.parquet"
state = "state"
policy = "policy.toml"
[server]
address = "coordinator.example.org:443"
ca = "ca.crt"
[node]
key = "node.key"
secret = "app.secret"
client-api = "{address}"
"""
TLS = """client-api-certificate = "client-api.crt"
client-api-key = "client-api.key"
client-api-ca = "client-api.crt"
"""


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> ClientApiTls:
    return made_pair(tmp_path_factory.mktemp("node"))


@pytest.fixture(scope="module")
def strangers(tmp_path_factory: pytest.TempPathFactory) -> ClientApiTls:
    return made_pair(tmp_path_factory.mktemp("stranger"))


def made_pair(folder: Path) -> ClientApiTls:
    script("local-api.sh", folder)
    certificate = folder / "client-api.crt"
    return ClientApiTls(certificate, folder / "client-api.key", certificate)


@dataclass(frozen=True)
class Node:
    """A node that has one task for the app."""

    address: Address
    state: NodeStateFactory

    @property
    def task_is_taken(self) -> bool:
        (task,) = self.state.state().get_tasks()
        return bool(task.status.status != "pending")

    def ask(self, ca: Path | None, secret: bytes = SECRET, insecure: bool = False) -> str:
        """Ask for a task as the app's process does; return its token, empty where there is none."""
        proof = SuperExecAuthHttpInterceptor(
            master_secret=secret, protected_methods=frozenset({"/flwr.proto.Runtime/AcquireTask"})
        )
        client = RuntimeHttpClient.from_server_address(
            str(self.address), insecure, ca.read_bytes() if ca else None, [proof]
        )
        try:
            request = AcquireTaskRequest(supported_task_types=[TaskType.CLIENT_APP])
            return str(client.AcquireTask(request).token)
        finally:
            client.close()


@pytest.fixture
def node(pair: ClientApiTls) -> Iterator[Node]:
    node = Node(
        Address("127.0.0.1", free_port()),
        NodeStateFactory(objectstore_factory=ObjectStoreFactory()),
    )
    assert node.state.state().create_task(TaskType.CLIENT_APP, run_id=1)
    server, thread = serve_local_api(node.address, node.state, SECRET, pair)
    try:
        yield node
    finally:
        server.should_exit = True
        thread.join(20)


@dataclass
class Stranger:
    """An attacker that listens in the node's place, and records how each call ended."""

    port: int
    received: list[bytes] = field(default_factory=list)
    turned_away: list[str] = field(default_factory=list)


@contextmanager
def in_the_nodes_place(tls: ClientApiTls) -> Iterator[Stranger]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tls.certificate, tls.key)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        stranger = Stranger(listening.getsockname()[1])

        def serve() -> None:
            while True:
                try:
                    raw, _ = listening.accept()
                except OSError:  # closed: the test is over
                    return
                raw.settimeout(20)
                try:
                    with context.wrap_socket(raw, server_side=True) as channel:
                        stranger.received.append(channel.recv(65536))
                except OSError as problem:  # an SSLError is one
                    stranger.turned_away.append(str(problem))

        threading.Thread(target=serve, daemon=True).start()
        yield stranger
        listening.shutdown(socket.SHUT_RDWR)


@contextmanager
def app_process(folder: Path, address: str, ca: Path) -> Iterator[None]:
    """Run the app's process of a site that trusts a certificate."""
    (folder / "site.toml").write_text(SITE.format(address=address) + TLS)
    (folder / "app.secret").write_bytes(SECRET)
    (folder / "client-api.crt").write_bytes(ca.read_bytes())
    command = [sys.executable, "-m", "client", "app", "--config", str(folder / "site.toml")]
    with running(command, folder / "app.log", environment(folder), cwd=folder):
        yield


@pytest.mark.parametrize(
    "address", ["0.0.0.0:9094", "10.0.0.7:9094", "client-api:9094", "[fd00::7]:9094"]
)
def test_an_interface_that_others_reach_is_not_served_in_the_clear(
    tmp_path: Path, address: str
) -> None:
    """Before: `node.secret` was enough, and tokens, bundles and replies were not encrypted."""
    file = tmp_path / "site.toml"
    file.write_text(SITE.format(address=address))
    with pytest.raises(UsageError, match=r"deploy/certs/local-api\.sh and set node\.client-api-c"):
        load_site_config(file)
    file.write_text(SITE.format(address=address) + TLS)
    assert load_site_config(file).node.client_api_tls is not None


def test_who_does_not_know_the_nodes_certificate_takes_no_task(
    node: Node, pair: ClientApiTls, strangers: ClientApiTls
) -> None:
    """Before: there was no certificate, so the app trusted any server."""
    for ca in (strangers.ca, None):
        with pytest.raises(httpx.ConnectError, match="certificate verify failed"):
            node.ask(ca)
    with pytest.raises(httpx.HTTPError):
        node.ask(None, insecure=True)
    assert not node.task_is_taken
    assert node.ask(pair.ca)
    assert node.task_is_taken


def test_who_does_not_know_the_secret_takes_no_task(node: Node, pair: ClientApiTls) -> None:
    """The certificate is no secret. Before: the same, unless the secret's proof was overheard."""
    with pytest.raises(httpx.HTTPError):
        node.ask(pair.ca, secret=b"guessed")
    assert not node.task_is_taken


def test_old_tls_is_refused(node: Node, pair: ClientApiTls) -> None:
    """Before: there was none."""
    context = ssl.create_default_context(cafile=str(pair.ca))
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with (
        socket.create_connection((node.address.host, node.address.port), 20) as raw,
        pytest.raises(ssl.SSLError),
    ):
        context.wrap_socket(raw, server_hostname="localhost")


@pytest.mark.slow
def test_the_apps_process_takes_its_nodes_task(
    node: Node, pair: ClientApiTls, tmp_path: Path
) -> None:
    with app_process(tmp_path, str(node.address), pair.ca):
        wait_for("the app has its task", lambda: node.task_is_taken)


@pytest.mark.slow
def test_the_apps_process_tells_a_stranger_nothing(
    pair: ClientApiTls, strangers: ClientApiTls, tmp_path: Path
) -> None:
    """Before: it asked without TLS, and ran any app that it was given on the site table."""
    with (
        in_the_nodes_place(strangers) as stranger,
        app_process(tmp_path, f"127.0.0.1:{stranger.port}", pair.ca),
    ):
        wait_for("the app has turned away", lambda: stranger.turned_away or stranger.received)
    assert stranger.received == []
    assert "unknown ca" in stranger.turned_away[0] or "bad certificate" in stranger.turned_away[0]


@pytest.mark.parametrize("told", [True, False])
def test_a_stranger_cannot_fill_the_nodes_memory(
    node: Node, pair: ClientApiTls, told: bool
) -> None:
    """A body larger than any call is refused, or cut off, and the node goes on.

    Before: Flower read it whole, and only then asked for the secret and answered 401.
    """
    field_ = b"\x7a\x80\x80\x40" + bytes(2**20)  # one that the request has not, and passes over
    parts = MOST_BYTES // 2**20 + 2
    headers = {"content-type": PROTOBUF_MEDIA_TYPE}
    if told:
        headers["content-length"] = str(parts * len(field_))
    address = f"https://{node.address}/v1/runtime/acquire-task"
    with httpx.Client(verify=False) as stranger:
        answer = stranger.post(address, content=(field_ for _ in range(parts)), headers=headers)
    assert answer.status_code == (413 if told else 500)
    assert node.ask(pair.ca)
