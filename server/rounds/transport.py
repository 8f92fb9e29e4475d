"""Messages to nodes and their replies, with every wait bounded."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from flwr.app import Message, RecordDict
from flwr.serverapp import Grid

FIRST_PAUSE_S = 0.05
LONGEST_PAUSE_S = 2.0


def exchange(
    grid: Grid, contents: Sequence[tuple[int, RecordDict]], message_type: str, timeout_s: float
) -> Iterator[tuple[int, Message]]:
    """Send messages and give the replies that come in time, one by one: none is kept.

    Args:
        grid: Flower's way to the nodes.
        contents: node and content of each message.
        message_type: one of `flwr.app.MessageType`.
        timeout_s: the longest wait. It is the messages' time-to-live too, so that a site that was
            away does not work through the orders of rounds long past when it comes back.

    Yields:
        Each reply with the index of the message that it answers, in the order of arrival; an error
        that Flower raises for a lost node counts as its reply.
    """
    messages = [
        Message(content, dst_node_id=node, message_type=message_type, ttl=timeout_s)
        for node, content in contents
    ]
    sent = list(grid.push_messages(messages))
    # By the id that it answers: an error for a lost node comes from Flower, not from the node.
    waiting = {message_id: index for index, message_id in enumerate(sent) if message_id}
    deadline = time.monotonic() + timeout_s
    pause = FIRST_PAUSE_S
    while waiting:
        replies = list(grid.pull_messages(list(waiting)))
        for reply in replies:
            index = waiting.pop(reply.metadata.reply_to_message_id, None)
            if index is not None:
                yield index, reply
        if replies:
            # Also past the deadline: what has come is taken. In one process, where sites work one
            # after another, a slow machine then changes no result.
            continue
        left = deadline - time.monotonic()
        if left <= 0:
            break
        time.sleep(min(pause, left))
        pause = min(2 * pause, LONGEST_PAUSE_S)
