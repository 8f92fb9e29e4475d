"""A node answers in its own name alone.

Flower checks that the caller of the fleet API has the key of the node that it says it is, and that
an answer bears the name of the node that was asked; but not that these two are one. Whoever guesses
the id of a message could answer it for the hospital that was asked.

A part of a message that is sent twice is there, and no error.

The server's app sends its messages in parts. Where the SuperLink dies between keeping a part and
saying so, the app sends the part again to the one that was started anew; that one has it, waits for
no such part, and says that it did not keep it. The run would end for that.
"""

from __future__ import annotations

from typing import Any

from flwr.proto.message_pb2 import PushObjectResponse
from flwr.superlink.servicer.fleet import fleet_handlers
from flwr.superlink.servicer.runtime import runtime_handlers
from starlette.exceptions import HTTPException

PUSH_OBJECT = "push_object"


def take_resent() -> None:
    """Have the runtime API take parts that it has already, for the rest of this process.

    Only of the server's app, which may read all parts of its run anyway: to a site the answer would
    tell whether another one has sent what it guesses.
    """
    original = getattr(runtime_handlers, PUSH_OBJECT)

    def push_object(request: Any, state: Any, task: Any) -> Any:
        response = original(request, state, task)
        if response.stored or not request.object_content:
            return response
        kept = state.get_object(task.run_id, request.object_id)
        return PushObjectResponse(stored=kept == request.object_content)

    setattr(runtime_handlers, PUSH_OBJECT, push_object)


PUSH_MESSAGES = "push_messages"


def check_origin() -> None:
    """Have the fleet API refuse answers in another node's name, for the rest of this process."""
    original = getattr(fleet_handlers, PUSH_MESSAGES)

    def push_messages(request: Any, state: Any) -> Any:
        sources = [message.metadata.src_node_id for message in request.messages_list]
        if any(source != request.node.node_id for source in sources):
            raise HTTPException(403, "a node answers in its own name alone")
        return original(request=request, state=state)

    setattr(fleet_handlers, PUSH_MESSAGES, push_messages)
