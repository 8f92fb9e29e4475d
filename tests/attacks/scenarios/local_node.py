"""A node with its local interface and the app's process, without a coordinator or a gate.

Every bundle counts as approved: the tests check which code runs for it, and what is left of it
afterwards.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from flwr.app import Message, MessageType, Metadata, RecordDict
from flwr.cli.config_utils import get_fab_metadata
from flwr.common.constant import Status
from flwr.supercore.fab import Fab
from flwr.supercore.object_store import ObjectStoreFactory
from flwr.supercore.run import Run
from flwr.supernode import start_client_internal as worker
from flwr.supernode.nodestate import NodeStateFactory

from client.config.site_config import load_site_config
from client.dry_run.offline_node import OfflineConnection
from client.node.local_api import serve_local_api
from tests.integration.setup.deployed import REPOSITORY, replaced
from tests.samples.ports import free_port

WAIT_S = 120.0
NODE, COORDINATOR = 2, 1


class LocalNode:
    """The node's side.

    Args:
        folder: where site.toml and the secret are written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        own = {"/var/lib/fedvitals": "state", "client-api:9094": f"127.0.0.1:{free_port()}"}
        own["client-api-"] = "# client-api-"  # in the clear, on loopback
        (folder / "site.toml").write_text(replaced("site.toml", own))
        self.config = load_site_config(folder / "site.toml")
        self.secret = secrets.token_hex(32)
        assert self.config.node.secret is not None
        self.config.node.secret.parent.mkdir()
        self.config.node.secret.write_text(self.secret)
        objects = ObjectStoreFactory()
        self._states = NodeStateFactory(objectstore_factory=objects)
        self._state, self._store = self._states.state(), objects.store()
        self._state.set_node_id(NODE)
        self._runs = 0

    @contextmanager
    def open(self, cwd: Path) -> Iterator[None]:
        """Serve, with the app's process started in a folder, as long as the block lasts."""
        address = self.config.node.client_api
        server, thread = serve_local_api(address, self._states, self.secret.encode())
        command = [sys.executable, "-P", "-m", "client", "app", "--config"]
        with (self.folder / "app.log").open("wb") as log:
            app = subprocess.Popen(
                [*command, str(self.folder / "site.toml")],
                cwd=cwd,
                env=self.environment,
                stdout=log,
                stderr=log,
            )
        try:
            yield
        finally:
            app.send_signal(signal.SIGTERM)
            app.wait(30)
            server.should_exit = True
            thread.join()

    @property
    def environment(self) -> dict[str, str]:
        """Environment of the app's process, without settings about where code may come from."""
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONSAFEPATH"}
        own = {"FLWR_HOME": self.folder / "flower", "FEDVITALS_HOME": self.folder / "home"}
        paths = {name: str(path) for name, path in own.items()}
        return {**environment, "PYTHONPATH": str(REPOSITORY), **paths}

    def ask(self, bundle: bytes, fab_id: str = "", fab_version: str = "") -> None:
        """Send the app in a bundle one request, and return when its task has ended.

        Args:
            bundle: the app.
            fab_id: the id that the coordinator gives; default: the bundle's own.
            fab_version: likewise.
        """
        self._runs += 1
        own_id, own_version = get_fab_metadata(bundle)
        run = Run.create_empty(self._runs)
        run.fab_id, run.fab_version = fab_id or own_id, fab_version or own_version
        run.fab_hash = hashlib.sha256(bundle).hexdigest()
        outside = OfflineConnection(run, Fab(run.fab_hash, bundle, {}))
        outside.enqueue(self._join_request())
        connection = outside.functions()
        worker._pull_and_store_message(
            state=self._state,
            object_store=self._store,
            node_config={},
            receive=connection.receive,
            get_run=connection.get_run,
            get_fab=connection.get_fab,
            pull_object=connection.pull_object,
            confirm_message_received=connection.confirm_message_received,
            trusted_entities=None,
        )
        deadline = time.monotonic() + WAIT_S
        while not self._state.get_tasks(run_ids=[self._runs], statuses=[Status.FINISHED]):
            assert time.monotonic() < deadline, (self.folder / "app.log").read_text()[-3000:]
            time.sleep(0.05)

    def _join_request(self) -> Message:
        kind = MessageType.QUERY
        metadata = Metadata(self._runs, "", COORDINATOR, NODE, "", "", time.time(), 600.0, kind)
        message: Message = Message(content=RecordDict(), metadata=metadata)  # type: ignore[call-overload]
        metadata.__dict__["_message_id"] = message.object_id
        return message
