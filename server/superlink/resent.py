"""A part of a message that is sent twice is there, and no error.

The server's app sends its messages in parts. Where the SuperLink dies between keeping a part and
saying so, the app sends the part again to the one that was started anew; that one has it, waits for
no such part, and says that it did not keep it. The run would end for that.
"""

from __future__ import annotations

from typing import Any

from flwr.proto.message_pb2 import PushObjectResponse
from flwr.superlink.servicer.runtime import runtime_handlers

HANDLER = "push_object"


def take_resent() -> None:
    """Have the runtime API take parts that it has already, for the rest of this process.

    Only of the server's app, which may read all parts of its run anyway: to a site the answer would
    tell whether another one has sent what it guesses.
    """
    original = getattr(runtime_handlers, HANDLER)

    def push_object(request: Any, state: Any, task: Any) -> Any:
        response = original(request, state, task)
        if response.stored or not request.object_content:
            return response
        kept = state.get_object(task.run_id, request.object_id)
        return PushObjectResponse(stored=kept == request.object_content)

    setattr(runtime_handlers, HANDLER, push_object)
