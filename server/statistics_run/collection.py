"""Collection of the sites' statistics over Flower: one request to each node, within a bounded wait.

Nothing here trains: no round is begun, no backbone is loaded. A node's identity is what the
SuperLink has registered. A reply is untrusted input: it is one text, and all of it is validated.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from flwr.app import Message, MessageType, RecordDict
from flwr.serverapp import Grid

from common.config.run_config import RunConfig
from common.data.statistics.reply import KEY, RECORD, parse_site_statistics
from common.errors import StatisticsError
from common.names import printable
from server.rounds.enrollment import POLL_S, Roster, read_roster
from server.rounds.transport import exchange

log = logging.getLogger("flwr.fedvitals.server")

NO_REPLY = "no reply in time"


@dataclass
class Replies:
    """The replies so far.

    Attributes:
        sites: valid statistics by site.
        refused: reason by name of a node without valid statistics.
    """

    sites: dict[str, Any] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)


def collect_statistics(grid: Grid, config: RunConfig) -> Replies:
    """Request the statistics of every connected node once.

    It ends when `federation.min-sites` nodes have answered and none that is connected is left, or
    after `federation.wait-s`.

    Args:
        grid: Flower's connection to the nodes.
        config: the run's settings.

    Raises:
        StatisticsError: it is a simulation, whose nodes have no gate, or no site has sent
            statistics; the message has the reason of each.
    """
    replies, asked = Replies(), set[int]()
    deadline = time.monotonic() + config.federation.wait_s
    while True:
        roster = read_roster(grid)
        if roster.simulated:
            raise StatisticsError(
                "statistics are counted by a hospital's node, and a simulation has none; use: "
                "python -m simulation statistics"
            )
        new = sorted(set(roster.names) - asked)
        asked |= set(new)
        _request(grid, new, roster, max(deadline - time.monotonic(), 1.0), replies)
        enough = len(replies.sites) + len(replies.refused) >= config.federation.min_sites
        if (enough and asked) or time.monotonic() >= deadline:
            break
        time.sleep(POLL_S)
    for name, reason in sorted(replies.refused.items()):
        log.warning("%s has sent no statistics: %s", name, reason)
    if not replies.sites:
        reasons = "; ".join(f"{name}: {why}" for name, why in sorted(replies.refused.items()))
        raise StatisticsError(f"no site has sent statistics: {reasons or 'none is connected'}")
    return replies


def _request(
    grid: Grid, nodes: Sequence[int], roster: Roster, wait_s: float, replies: Replies
) -> None:
    """Send requests to new nodes and add their replies."""
    known = [node for node in nodes if roster.names[node]]
    for node in nodes:
        if node not in known:
            replies.refused[roster.label(node)] = "its key is registered under no site's name"
    waiting = {roster.names[node] for node in known}
    contents = [(node, RecordDict()) for node in known]
    for index, reply in exchange(grid, contents, MessageType.QUERY, wait_s):
        node = known[index]
        name = roster.names[node]
        waiting.discard(name)
        try:
            replies.sites[name] = _statistics_in(reply, node)
            log.info("%s has sent statistics", name)
        except StatisticsError as problem:
            replies.refused[name] = str(problem)
    replies.refused |= dict.fromkeys(sorted(waiting), NO_REPLY)


def _statistics_in(reply: Message, node: int) -> dict[str, Any]:
    """Return the valid statistics in a node's reply.

    Raises:
        StatisticsError: it is an error or another node's, has other records, or is not valid.
    """
    if reply.has_error():
        raise StatisticsError(printable(reply.error.reason) or "it failed")
    if reply.metadata.src_node_id != node:
        raise StatisticsError("its reply comes from another node than the one that was asked")
    records = dict(reply.content)
    values = dict(reply.content.config_records.get(RECORD, {}))
    if records.keys() != {RECORD} or values.keys() != {KEY}:
        raise StatisticsError(f"its reply has other records than one named {RECORD}")
    return parse_site_statistics(values[KEY])
