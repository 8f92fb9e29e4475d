"""Node without a coordinator: the same worker, app process and gate as a connected node.

Flower's own functions store each request, start the app's process and pass its reply to `send`, as
in a connected node. Only the connection differs: `OfflineConnection` takes its requests from this
process and captures what it is given to send. The app's process is Flower's `flwr-clientapp`, which
unpacks the bundle and runs its code. It reaches the node at a port of the loopback interface that
is open only while the offline node is. A supervisor process ends the app and everything that it has
started, before the reply is read (`client.node.isolation.message_process`).
"""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, NoReturn

from flwr.app import Error, Message
from flwr.app.message import remove_content_from_message
from flwr.cli.config_utils import get_fab_metadata
from flwr.common.constant import ErrorCode, Status
from flwr.common.serde import message_to_proto
from flwr.proto.fleet_pb2 import PushMessagesRequest
from flwr.proto.message_pb2 import ObjectTree
from flwr.proto.node_pb2 import Node
from flwr.supercore.fab import Fab
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects, get_object_tree
from flwr.supercore.object_store import ObjectStoreFactory
from flwr.supercore.run import Run
from flwr.supernode import start_client_internal as worker
from flwr.supernode.nodestate import NodeStateFactory

from client.config.node_section import Address
from client.dry_run.first_round import DRY_RUN_ID, NODE_ID
from client.egress.gate import Gate
from client.node.gated_connection import FlowerConnection, GatedConnection
from client.node.isolation.linux import hide_memory
from client.node.local_api import serve_local_api
from client.node.reply_deadline import ReplyDeadline
from client.policy.app_bundle import BundleContents
from common.errors import AuditError, NodeError


@dataclass
class CapturedMessage:
    """A message that would have been sent.

    Attributes:
        announcement: Flower's request that announces it.
        objects: its objects by id, in the order of sending.
    """

    announcement: bytes = b""
    objects: dict[str, bytes] = field(default_factory=dict)


class OfflineNode:
    """A node that takes its requests from this process.

    Args:
        gate: decides on every request and reply.
        bundle: the app.
        settings: the run's settings, as flat pairs.
        node_config: the site's own settings, which the app is given.
        environment: environment of the app's process.
        output: receives the output of the app's process.
        hidden: files that the app may neither read nor change.
    """

    def __init__(
        self,
        gate: Gate,
        bundle: BundleContents,
        settings: Mapping[str, Any],
        node_config: Mapping[str, Any],
        environment: Mapping[str, str],
        output: IO[bytes],
        hidden: Sequence[Path] = (),
    ) -> None:
        self._node_config = dict(node_config)
        self._environment = dict(environment)
        self._output = output
        self._hidden = [str(path.absolute()) for path in hidden]  # the app has another directory
        objects = ObjectStoreFactory()
        self._states = NodeStateFactory(objectstore_factory=objects)
        self._state, self._store = self._states.state(), objects.store()
        self._state.set_node_id(NODE_ID)
        run = Run.create_empty(DRY_RUN_ID)
        run.fab_id, run.fab_version = get_fab_metadata(bundle.data)
        run.fab_hash, run.override_config = bundle.sha256, dict(settings)
        self._connection = OfflineConnection(run, Fab(bundle.sha256, bundle.data, {}))
        self._gated = GatedConnection(
            self._connection.functions(), gate, self._store, ReplyDeadline(), _raise
        ).functions()
        self._address: Address | None = None

    @contextmanager
    def open(self) -> Iterator[OfflineNode]:
        """Serve the app's process for as long as the block lasts."""
        hide_memory()  # without Landlock the bundle could otherwise write the dry run's own page
        # Nobody knows the secret: the one task is claimed here, and no other process can claim it.
        server, thread = serve_local_api(
            Address("127.0.0.1", 0), self._states, secrets.token_bytes(32)
        )
        self._address = Address("127.0.0.1", server.servers[0].sockets[0].getsockname()[1])
        try:
            yield self
        finally:
            server.should_exit = True
            thread.join()

    def ask(self, request: Message) -> CapturedMessage:
        """Let the app answer a request and the gate decide; the node answers some itself.

        Returns:
            The message that would have been sent.

        Raises:
            NodeError: if it is unknown whether the app's processes have ended.
        """
        self._connection.enqueue(request)
        if not self._store_request():
            return self._connection.captured
        self._run_app()
        reply = self._reply(request)
        ids = [reply.metadata.message_id, reply.metadata.reply_to_message_id]
        tree = self._store.get_object_tree(ids[0])
        self._gated.send(reply, tree, self._state.get_message_processing_duration(ids[1]))
        self._state.delete_messages(message_ids=ids)
        return self._connection.captured

    def _store_request(self) -> bool:
        """Let Flower's worker store the request; return False if the gate does not admit it."""
        run = worker._pull_and_store_message(
            state=self._state,
            object_store=self._store,
            node_config=self._node_config,
            receive=self._gated.receive,
            get_run=self._gated.get_run,
            get_fab=self._gated.get_fab,
            pull_object=self._gated.pull_object,
            confirm_message_received=self._gated.confirm_message_received,
            trusted_entities=None,  # approved before the dry run began, and checked by the gate
        )
        return run is not None

    def _run_app(self) -> None:
        """Run the app's process for the one pending task, until all its processes have ended."""
        (task,) = self._state.get_tasks(run_ids=[DRY_RUN_ID], statuses=[Status.PENDING])
        token = str(self._state.claim_task(task.task_id))
        arguments = ["flwr-clientapp", "--insecure", "--runtime-api-address", str(self._address)]
        arguments += ["--token", token]
        order = {"arguments": arguments, "hidden": self._hidden, "parent": os.getpid()}
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "client.node.isolation.message_process"],
            stdin=subprocess.PIPE,
            stdout=self._output,
            stderr=subprocess.STDOUT,
            env=self._environment,
            cwd=self._environment["FLWR_HOME"],
            start_new_session=True,  # detached from the terminal, into which it could type
        )
        try:
            process.communicate(json.dumps(order).encode())
        finally:  # if interrupted, the supervisor ends the app first
            process.terminate()
            process.wait()
        if process.returncode:
            raise NodeError(
                f"the supervisor of the app's processes ended with {process.returncode}; processes "
                "of the bundle may still be running"
            )

    def _reply(self, request: Message) -> Message:
        """Return the app's reply, or Flower's error if its process ended without one."""
        replies = self._state.get_messages_legacy(is_reply=True)
        if not replies:
            stopped = Error(ErrorCode.CLIENT_APP_CRASHED, "the app's process ended")
            worker._insert_message(Message(stopped, reply_to=request), self._state, self._store)
            replies = self._state.get_messages_legacy(is_reply=True)
        return replies[0]


class OfflineConnection:
    """The functions of Flower's connection, without a coordinator.

    Args:
        run: the run that the requests belong to.
        bundle: its app bundle.
    """

    def __init__(self, run: Run, bundle: Fab) -> None:
        self._run = run
        self._bundle = bundle
        self._request: Message | None = None
        self._contents: dict[str, bytes] = {}
        self.captured = CapturedMessage()

    def enqueue(self, request: Message) -> None:
        """Set the request that is received next."""
        self._request = request
        self._contents = {
            name: one.deflate() for name, one in get_all_nested_objects(request).items()
        }
        self.captured = CapturedMessage()

    def functions(self) -> FlowerConnection:
        """Return the functions that `GatedConnection` wraps."""
        return FlowerConnection(
            NODE_ID,
            self._receive,
            self._send,
            lambda _run: self._run,
            lambda _digest, _run: self._bundle,
            lambda _run, name: self._contents[name],
            self._push_object,
            lambda _run, _name: None,
        )

    def _receive(self) -> tuple[Message, ObjectTree] | None:
        request, self._request = self._request, None
        if request is None:
            return None
        return remove_content_from_message(request), get_object_tree(request)

    def _send(self, message: Message, tree: ObjectTree, worked_s: float) -> tuple[set[str], str]:
        bare = remove_content_from_message(message) if message.has_content() else message
        announcement = PushMessagesRequest(
            node=Node(node_id=NODE_ID),
            messages_list=[message_to_proto(bare)],
            message_object_trees=[tree],
            clientapp_runtime_list=[worked_s],
        )
        self.captured = CapturedMessage(announcement.SerializeToString(deterministic=True))
        return set(get_all_nested_objects(message)), ""

    def _push_object(self, _run: int, _session: str, name: str, content: bytes) -> None:
        self.captured.objects[name] = content


def _raise(problem: AuditError) -> NoReturn:
    raise problem
