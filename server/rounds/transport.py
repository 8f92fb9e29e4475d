"""Bounded exchange of messages with nodes."""

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
    """Send messages and yield the replies that arrive in time, one by one; none is kept.

    Args:
        grid: Flower's connection to the nodes.
        contents: node id and content of each message.
        message_type: one of `flwr.app.MessageType`.
        timeout_s: the longest wait. Also the messages' time to live, so that a node that was
            offline does not work through the requests of past rounds when it returns.

    Yields:
        The index of the request and its reply, in order of arrival. The error that Flower reports
        for a lost node counts as its reply.
    """
    messages = [
        Message(content, dst_node_id=node, message_type=message_type, ttl=timeout_s)
        for node, content in contents
    ]
    sent = list(grid.push_messages(messages))
    # Matched by message id: the error for a lost node comes from Flower, not from the node.
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
            # Replies that have arrived are read even past the deadline. In the in-process engine,
            # where sites run one after another, a slow machine then does not change the result.
            continue
        left = deadline - time.monotonic()
        if left <= 0:
            break
        time.sleep(min(pause, left))
        pause = min(2 * pause, LONGEST_PAUSE_S)
