"""Two patches of Flower's SuperLink 1.41.0."""

from __future__ import annotations

from typing import Any

from flwr.proto.message_pb2 import PushObjectResponse
from flwr.superlink.servicer.fleet import fleet_handlers
from flwr.superlink.servicer.runtime import runtime_handlers
from starlette.exceptions import HTTPException

PUSH_MESSAGES = "push_messages"
PUSH_OBJECT = "push_object"


def reject_foreign_replies() -> None:
    """Make the fleet API reject replies in another node's name, for the rest of this process.

    Flower checks that the caller has the key of the node that it claims to be, and that a reply
    names the node that was addressed, but not that the two are the same. Anyone in the federation
    who guesses the id of a message could reply in the name of another hospital.
    """
    original = getattr(fleet_handlers, PUSH_MESSAGES)

    def push_messages(request: Any, state: Any) -> Any:
        sources = [message.metadata.src_node_id for message in request.messages_list]
        if any(source != request.node.node_id for source in sources):
            raise HTTPException(403, "a node replies in its own name only")
        return original(request=request, state=state)

    setattr(fleet_handlers, PUSH_MESSAGES, push_messages)


def accept_resent_objects() -> None:
    """Make the runtime API accept objects that it has already, for the rest of this process.

    The server's app sends a message in objects. If the SuperLink dies between storing an object and
    confirming it, the app sends the object again to the restarted SuperLink, which has it, does not
    expect it, and reports it as not stored: the run would fail. Only the server's app gets this
    answer, since it may read all objects of its run anyway; to a site it would reveal whether
    another site has sent an object that it guesses.
    """
    original = getattr(runtime_handlers, PUSH_OBJECT)

    def push_object(request: Any, state: Any, task: Any) -> Any:
        response = original(request, state, task)
        if response.stored or not request.object_content:
            return response
        stored = state.get_object(task.run_id, request.object_id)
        return PushObjectResponse(stored=stored == request.object_content)

    setattr(runtime_handlers, PUSH_OBJECT, push_object)
