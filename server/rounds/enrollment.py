"""Enrollment of the sites: query the nodes within bounded waits and admit their sites.

Begin with `enroll_sites`. The identity of a node is what the SuperLink has registered, never what
the node reports of itself.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from flwr.app import Message, MessageType, RecordDict
from flwr.serverapp import Grid
from flwr.supercore.constant import TaskType

from common.config.run_config import RunConfig
from common.names import is_site_name, printable
from server.rounds.join_reply import JoinError, announced_nodes, registered_site, simulated_sites
from server.rounds.site_registry import JoinReply, SiteRegistry
from server.rounds.transport import exchange

# Below Flower's own logger, so that `flwr run --stream` and `flwr log` show it.
log = logging.getLogger("flwr.fedvitals.server")

POLL_S = 0.5
"""Interval between two looks for new nodes while the server waits for them."""


@dataclass
class _JoinReplies:
    """The join replies so far.

    Attributes:
        sites: the replies, one per site.
        announced: number of nodes that a simulation's nodes announce; 0 where none does, and in a
            deployment.
        failed: whether a node's reply was refused.
    """

    sites: list[JoinReply] = field(default_factory=list)
    announced: int = 0
    failed: bool = False


def enroll_sites(grid: Grid, config: RunConfig, backbone_digest: str) -> SiteRegistry:
    """Query every node once and admit its sites.

    In a deployment a node runs the one site under whose name its key is registered. The run starts
    as soon as `federation.min-sites` admissible sites have replied; later ones join through
    `enroll_new_sites`. In a simulation a node may run several sites and announces the number of
    nodes: the run starts when all of them have replied.

    Args:
        grid: Flower's connection to the nodes.
        config: the run's settings, with the number of sites needed and the longest wait.
        backbone_digest: of the run's frozen backbone.

    Returns:
        The registry; the order of arrival does not affect it.

    Raises:
        FederationError: too few admissible sites replied in time.
    """
    registry = SiteRegistry(config, backbone_digest)
    least = config.federation.min_sites
    deadline = time.monotonic() + config.federation.wait_s
    replies = _JoinReplies()
    while True:
        left_s = max(deadline - time.monotonic(), 1.0)
        roster = read_roster(grid)
        _query_new_nodes(grid, registry, roster, left_s, replies)
        if replies.announced:
            complete = len(registry.queried) >= replies.announced
        else:
            # Admissible sites only: a node with an invalid reply must not end the wait.
            complete = _admissible(replies.sites, config, backbone_digest) >= least
        # Where every node of a simulation has failed, none will announce their number.
        all_failed = roster.simulated and replies.failed and not replies.sites
        if (registry.queried and complete) or all_failed or time.monotonic() >= deadline:
            break
        time.sleep(POLL_S)
    registry.admit_all(replies.sites)
    for site, why in sorted(registry.refused.items()):
        log.warning("%s does not take part: %s", site, why)
    registry.require(least)
    return registry


def enroll_new_sites(grid: Grid, registry: SiteRegistry, wait_s: float) -> None:
    """Query the nodes that have connected since and admit their sites, new or returning.

    Args:
        grid: Flower's connection to the nodes.
        registry: the sites so far, to which the new ones are added.
        wait_s: the longest wait for the join replies.
    """
    roster = read_roster(grid)
    if set(roster.names) <= registry.queried:
        return
    before = set(registry.members.items())
    replies = _JoinReplies()
    _query_new_nodes(grid, registry, roster, wait_s, replies)
    registry.admit_all(replies.sites, set(roster.names))
    for name, member in sorted(registry.members.items()):
        if (name, member) not in before:
            log.info("site %s takes part from now on", name)


@dataclass(frozen=True)
class Roster:
    """The connected nodes, from the SuperLink's records.

    Attributes:
        simulated: whether they are nodes of a simulation, which have no keys and may run several
            sites each.
        names: by Flower's id of a node, the name under which its key is registered; empty in a
            simulation, and where the key is not registered.
    """

    simulated: bool
    names: Mapping[int, str]

    def label(self, node: int) -> str:
        """Return the name of a node in refusals."""
        return self.names.get(node, "") or f"node {node}"


def read_roster(grid: Grid) -> Roster:
    """Read the connected nodes and the kind of run from the SuperLink's records.

    The kind was fixed when the run was started, a node's name when the coordinator registered its
    key. No node can change either.
    """
    if grid.run.primary_task_type == TaskType.SIMULATION:
        return Roster(True, dict.fromkeys(grid.get_node_ids(), ""))
    names = {
        node.node_id: node.name if node.public_key and is_site_name(node.name) else ""
        for node in grid.get_nodes()
    }
    return Roster(False, names)


def _query_new_nodes(
    grid: Grid, registry: SiteRegistry, roster: Roster, wait_s: float, replies: _JoinReplies
) -> None:
    """Query the nodes that were not queried yet and add their replies."""
    new = sorted(set(roster.names) - registry.queried)
    registry.queried |= set(new)
    known = [node for node in new if roster.simulated or roster.names[node]]
    for node in sorted(set(new) - set(known)):
        reason = "its key is registered under no site's name; see `python -m server sites add`"
        registry.refuse(roster.label(node), reason)
    contents = [(node, RecordDict()) for node in known]
    for index, reply in exchange(grid, contents, MessageType.QUERY, wait_s):
        node = known[index]
        try:
            replies.sites += _parse_sites(node, roster, reply)
        except JoinError as error:
            replies.failed = True
            registry.refuse(roster.label(node), str(error))
            continue
        if roster.simulated:
            replies.announced = max(replies.announced, announced_nodes(reply))


def _parse_sites(node: int, roster: Roster, reply: Message) -> list[JoinReply]:
    if reply.has_error():
        raise JoinError(f"it failed: {printable(reply.error.reason)}")
    if roster.simulated:
        return simulated_sites(node, reply)
    return [registered_site(node, roster.names[node], reply)]


def _admissible(replies: Sequence[JoinReply], config: RunConfig, backbone_digest: str) -> int:
    """The number of sites that these replies would admit."""
    trial = SiteRegistry(config, backbone_digest)
    trial.admit_all(replies)
    return len(trial.members)
