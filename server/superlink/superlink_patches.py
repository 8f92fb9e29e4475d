"""A node answers in its own name alone.

Flower checks that the caller of the fleet API has the key of the node that it says it is, and that
an answer bears the name of the node that was asked; but not that these two are one. Whoever guesses
the id of a message could answer it for the hospital that was asked.
"""

from __future__ import annotations

from typing import Any

from flwr.superlink.servicer.fleet import fleet_handlers
from starlette.exceptions import HTTPException

HANDLER = "push_messages"


def check_origin() -> None:
    """Have the fleet API refuse answers in another node's name, for the rest of this process."""
    original = getattr(fleet_handlers, HANDLER)

    def push_messages(request: Any, state: Any) -> Any:
        sources = [message.metadata.src_node_id for message in request.messages_list]
        if any(source != request.node.node_id for source in sources):
            raise HTTPException(403, "a node answers in its own name alone")
        return original(request=request, state=state)

    setattr(fleet_handlers, HANDLER, push_messages)
