"""Exchange of one round: send the requests and validate each reply on arrival."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from flwr.app import MessageType
from flwr.serverapp import Grid

from common.config.run_config import RunConfig
from server.rounds.reply_store import ReplyStore
from server.rounds.reply_validation import SiteReply, validate_reply
from server.rounds.round_request import RoundRequest
from server.rounds.transport import exchange


def request_training(
    grid: Grid, requests: Sequence[RoundRequest], config: RunConfig, store: ReplyStore
) -> dict[str, SiteReply]:
    """Send training requests and validate the replies.

    Args:
        grid: Flower's connection to the nodes.
        requests: one per site, with `train` set.
        config: the run's settings.
        store: receives each accepted adapter on arrival, so that only one is in memory at a time.

    Returns:
        The reply of each site, in the order of the requests, without the adapters' bytes; a refusal
        for a site that did not reply in time.
    """
    replies = _timeouts(requests, config)
    for reply in _validated_replies(grid, requests, MessageType.TRAIN, config):
        if reply.adapter is not None:
            store.add(reply.site, reply.adapter)
        replies[reply.site] = replace(reply, adapter=None)
    return replies


def request_validation(
    grid: Grid, requests: Sequence[RoundRequest], config: RunConfig
) -> dict[str, SiteReply]:
    """Send requests to validate only; arguments and result as in `request_training`."""
    replies = _timeouts(requests, config)
    for reply in _validated_replies(grid, requests, MessageType.EVALUATE, config):
        replies[reply.site] = reply
    return replies


def _timeouts(requests: Sequence[RoundRequest], config: RunConfig) -> dict[str, SiteReply]:
    """The replies before any has arrived: a refusal per site, in the order of the requests."""
    reason = f"no reply within {config.federation.round_timeout_s:g} s"
    return {
        request.member.name: SiteReply(request.member.name, refused=reason) for request in requests
    }


def _validated_replies(
    grid: Grid, requests: Sequence[RoundRequest], message_type: str, config: RunConfig
) -> Iterator[SiteReply]:
    """Send the requests and yield each reply in order of arrival, validated."""
    contents = [(request.member.node_id, request.content) for request in requests]
    timeout_s = config.federation.round_timeout_s
    for index, message in exchange(grid, contents, message_type, timeout_s):
        yield validate_reply(message, requests[index], config.privacy)
