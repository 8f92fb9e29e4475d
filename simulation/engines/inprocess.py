"""The in-process engine: Flower's Grid in one process, without Ray and without serialisation.

It runs the ServerApp and ClientApp of a deployment. A Ray simulation takes half a minute to start
on two cores and half a gigabyte per actor; this engine needs neither.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from flwr.app import Context, Error, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.supercore.constant import TaskType
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

from common.flower.log_colours import plain_flower_log

RUN_ID = 1
SITE_FAILED = 2
"""Flower's error code of a reply whose ClientApp raised an exception."""

OnMessage = Callable[[str, str], None]
"""Called with a message's type and site before the site processes it."""


def quiet_flower() -> None:
    """Show only warnings of Flower's and the server's log, without colour in a pipe.

    Call it after the import of Flower, which sets the level.
    """
    logging.getLogger("flwr").setLevel(logging.WARNING)
    plain_flower_log()


class InProcessGrid(Grid):
    """A Grid whose nodes are function calls, made one by one when their replies are pulled.

    Args:
        client_app: the app of every node.
        run_config: the run's settings, as flat pairs.
        nodes: number of nodes.
        on_message: see `OnMessage`.
        own: each node's own settings, in the order of the nodes; None = no own settings.
    """

    def __init__(
        self,
        client_app: ClientApp,
        run_config: Mapping[str, Any],
        nodes: int,
        on_message: OnMessage | None = None,
        own: Sequence[Mapping[str, Any]] | None = None,
    ) -> None:
        self._client_app = client_app
        self._on_message = on_message
        self._waiting: dict[str, Message] = {}
        self._run = Run.create_empty(RUN_ID)
        # As in Flower's simulation: nodes have no keys, and one may act as several sites.
        self._run.primary_task_type = TaskType.SIMULATION
        self._contexts = {
            node_id: Context(
                run_id=RUN_ID,
                node_id=node_id,
                node_config={
                    "partition-id": node_id - 1,
                    "num-partitions": nodes,
                    **(own[node_id - 1] if own else {}),
                },
                state=RecordDict(),
                run_config=dict(run_config),
            )
            for node_id in range(1, nodes + 1)
        }

    def set_run(self, run: Run) -> None:
        """Set the run; called by Flower's runtime, not by this engine."""
        self._run = run

    @property
    def run(self) -> Run:
        """The run."""
        return self._run

    def create_message(
        self,
        content: RecordDict,
        message_type: str,
        dst_node_id: int,
        group_id: str,
        ttl: float | None = None,
    ) -> Message:
        """Create a message as Flower's own grids do."""
        return Message(
            content,
            dst_node_id=dst_node_id,
            message_type=message_type,
            ttl=ttl,
            group_id=group_id,
        )

    def get_node_ids(self) -> Iterable[int]:
        """Return the ids of all nodes, 1 to their number."""
        return list(self._contexts)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Accept messages; the nodes process them when their replies are pulled."""
        ids = []
        for message in messages:
            message_id = uuid.uuid4().hex
            message.metadata.__dict__["_message_id"] = message_id
            message.metadata.__dict__["_run_id"] = RUN_ID
            self._waiting[message_id] = message
            ids.append(message_id)
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Run one node and return its reply; the others follow with the next calls."""
        for message_id in message_ids:
            message = self._waiting.pop(message_id, None)
            if message is not None:
                return [self._deliver(message)]
        return []

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """Send messages and return all replies; `timeout` is ignored: calls run to the end."""
        del timeout
        ids = self.push_messages(messages)
        return [reply for message_id in ids for reply in self.pull_messages([message_id])]

    def _deliver(self, message: Message) -> Message:
        if self._on_message is not None:
            records = message.content.config_records
            site = str(records["round"]["site"]) if "round" in records else ""
            self._on_message(message.metadata.message_type, site)
        context = self._contexts[message.metadata.dst_node_id]
        TaskIdentity.node_id = context.node_id
        try:
            return self._client_app(message, context)
        except Exception as error:
            # As on a real node, an exception of the site's app becomes an error reply.
            return Message(Error(code=SITE_FAILED, reason=str(error)), reply_to=message)


def run_in_process(
    server_app: ServerApp,
    client_app: ClientApp,
    run_config: Mapping[str, Any],
    *,
    nodes: int,
    on_message: OnMessage | None = None,
    own: Sequence[Mapping[str, Any]] | None = None,
    site_settings: Mapping[str, Any] | None = None,
) -> None:
    """Run a federation in this process; exceptions of the ServerApp propagate.

    Args:
        server_app: the server's app.
        client_app: the sites' app.
        run_config: the run's settings, as flat pairs.
        nodes: number of nodes.
        on_message: see `OnMessage`.
        own: each node's own settings, in the order of the nodes.
        site_settings: the same by SITE.KEY, which the ServerApp records.
    """
    TaskIdentity.task_id = TaskIdentity.run_id = TaskIdentity.node_id = RUN_ID
    context = Context(
        run_id=RUN_ID,
        node_id=0,
        node_config=dict(site_settings or {}),
        state=RecordDict(),
        run_config=dict(run_config),
    )
    server_app(InProcessGrid(client_app, run_config, nodes, on_message, own), context)
