"""A node without a coordinator: the same worker, app process and gate, and nothing beyond them.

Flower's own functions take each question in, start nothing over the network, and hand the app's
answer to `send`, as in a node that is connected. Only the connection is another one: its questions
come from this process, and what it is given to send it keeps. The app's process is Flower's own
`flwr-clientapp`, which unpacks the bundle and runs the code in it; it reaches the node at a port of
the loopback interface that is open for as long as the rehearsal lasts. A keeper waits for its end,
and for that of all that it has started, before the answer is looked at.
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
from client.dry_run.first_round import NODE_ID, RUN_ID
from client.egress.gate import Gate
from client.node.gated_connection import Connection, GatedConnection
from client.node.isolation.linux import hide_memory
from client.node.local_api import serve_local_api
from client.node.reply_deadline import Deadline
from client.policy.app_bundle import BundleContents
from common.errors import AuditError, NodeError


@dataclass
class Kept:
    """What would have been sent as one answer.

    Attributes:
        announcement: Flower's request that announces it.
        objects: the pieces that follow, by id, in the order of their going.
    """

    announcement: bytes = b""
    objects: dict[str, bytes] = field(default_factory=dict)


class NoCoordinator:
    """The functions of a connection, without one.

    Args:
        run: the run that questions belong to.
        bundle: the app bundle that it brings.
    """

    def __init__(self, run: Run, bundle: Fab) -> None:
        self._run = run
        self._bundle = bundle
        self._question: Message | None = None
        self._contents: dict[str, bytes] = {}
        self.kept = Kept()

    def ask(self, question: Message) -> None:
        """Lay a question ready to be received."""
        self._question = question
        self._contents = {
            name: one.deflate() for name, one in get_all_nested_objects(question).items()
        }
        self.kept = Kept()

    def functions(self) -> Connection:
        """Return what the gate's connection wraps."""
        return Connection(
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
        question, self._question = self._question, None
        if question is None:
            return None
        return remove_content_from_message(question), get_object_tree(question)

    def _send(self, message: Message, tree: ObjectTree, worked_s: float) -> tuple[set[str], str]:
        bare = remove_content_from_message(message) if message.has_content() else message
        request = PushMessagesRequest(
            node=Node(node_id=NODE_ID),
            messages_list=[message_to_proto(bare)],
            message_object_trees=[tree],
            clientapp_runtime_list=[worked_s],
        )
        self.kept = Kept(request.SerializeToString(deterministic=True))
        return set(get_all_nested_objects(message)), ""

    def _push_object(self, _run: int, _session: str, name: str, content: bytes) -> None:
        self.kept.objects[name] = content


class Rehearsal:
    """A node that is asked by this process.

    Args:
        gate: decides about every answer.
        bundle: the app.
        settings: the run's settings, as flat pairs.
        node_config: the site's own settings, as the app is handed them.
        environment: of the app's process.
        output: takes what the app's process prints.
        hidden: files that the app shall neither read nor change.
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
        self._hidden = [str(path.absolute()) for path in hidden]  # its folder is another
        objects = ObjectStoreFactory()
        self._states = NodeStateFactory(objectstore_factory=objects)
        self._state, self._store = self._states.state(), objects.store()
        self._state.set_node_id(NODE_ID)
        run = Run.create_empty(RUN_ID)
        run.fab_id, run.fab_version = get_fab_metadata(bundle.data)
        run.fab_hash, run.override_config = bundle.sha256, dict(settings)
        self._outside = NoCoordinator(run, Fab(bundle.sha256, bundle.data, {}))
        self._gated = GatedConnection(
            self._outside.functions(), gate, self._store, Deadline(), _raise
        ).functions()
        self._address: Address | None = None

    @contextmanager
    def open(self) -> Iterator[Rehearsal]:
        """Serve the app's process for as long as the block lasts."""
        hide_memory()  # on a kernel without Landlock the bundle could write its own page otherwise
        # Nobody knows the secret: the one task is given out here, and to nobody who asks for one.
        server, thread = serve_local_api(
            Address("127.0.0.1", 0), self._states, secrets.token_bytes(32)
        )
        self._address = Address("127.0.0.1", server.servers[0].sockets[0].getsockname()[1])
        try:
            yield self
        finally:
            server.should_exit = True
            thread.join()

    def ask(self, question: Message) -> Kept:
        """Let the app answer a question and the gate decide; some the node answers itself.

        Returns:
            What would have been sent.

        Raises:
            NodeError: where it is not known whether the app's processes have ended.
        """
        self._outside.ask(question)
        if not self._take_in():
            return self._outside.kept
        self._work()
        answer = self._answer(question)
        ids = [answer.metadata.message_id, answer.metadata.reply_to_message_id]
        tree = self._store.get_object_tree(ids[0])
        self._gated.send(answer, tree, self._state.get_message_processing_duration(ids[1]))
        self._state.delete_messages(message_ids=ids)
        return self._outside.kept

    def _take_in(self) -> bool:
        """Let Flower's worker take the question; False where the gate does not admit it."""
        run = worker._pull_and_store_message(
            state=self._state,
            object_store=self._store,
            node_config=self._node_config,
            receive=self._gated.receive,
            get_run=self._gated.get_run,
            get_fab=self._gated.get_fab,
            pull_object=self._gated.pull_object,
            confirm_message_received=self._gated.confirm_message_received,
            trusted_entities=None,  # approved before anything began, and asked for by the gate
        )
        return run is not None

    def _work(self) -> None:
        (task,) = self._state.get_tasks(run_ids=[RUN_ID], statuses=[Status.PENDING])
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
            start_new_session=True,  # away from the terminal, into which it could type
        )
        try:
            process.communicate(json.dumps(order).encode())
        finally:  # also where it is interrupted: the keeper ends the app first
            process.terminate()
            process.wait()
        if process.returncode:
            raise NodeError(
                f"the keeper of the app's processes ended with {process.returncode}; what the "
                "bundle has left running is not known, nor what it would still do"
            )

    def _answer(self, question: Message) -> Message:
        """The app's answer; where its process ended without, the error that Flower gives."""
        answers = self._state.get_messages_legacy(is_reply=True)
        if not answers:
            stopped = Error(ErrorCode.CLIENT_APP_CRASHED, "the app's process ended")
            worker._insert_message(Message(stopped, reply_to=question), self._state, self._store)
            answers = self._state.get_messages_legacy(is_reply=True)
        return answers[0]


def _raise(problem: AuditError) -> NoReturn:
    raise problem
