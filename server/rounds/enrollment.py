"""The sites of a run are gathered: nodes are awaited within bounds and asked what they bring.

The nodes of a run as the SuperLink knows them: not as they call themselves.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from flwr.app import Message, MessageType, RecordDict
from flwr.serverapp import Grid
from flwr.supercore.constant import TaskType

from common.config.run_config import RunConfig
from common.names import is_site_name, printable
from server.rounds.join_reply import JoinError, announced_nodes, registered_site, simulated_sites
from server.rounds.site_registry import Answer, Membership
from server.rounds.transport import exchange


@dataclass(frozen=True)
class Roster:
    """Who is there now.

    Attributes:
        simulated: whether the nodes are those of a simulation, which have no keys and may play
            several sites each.
        names: of each node, by Flower's id, the name under which its key is registered; empty in a
            simulation, and where the key has none.
    """

    simulated: bool
    names: Mapping[int, str]

    def label(self, node: int) -> str:
        """Return how a node is called where it is refused."""
        return self.names.get(node, "") or f"node {node}"


def read_roster(grid: Grid) -> Roster:
    """Ask the SuperLink for the nodes that are there, and for the kind of run.

    Both come from the SuperLink's own records: the kind was fixed when the run was started, a
    node's name when the coordinator registered its key. No node can change either.
    """
    if grid.run.primary_task_type == TaskType.SIMULATION:
        return Roster(True, dict.fromkeys(grid.get_node_ids(), ""))
    names = {
        node.node_id: node.name if node.public_key and is_site_name(node.name) else ""
        for node in grid.get_nodes()
    }
    return Roster(False, names)


# Below Flower's own logger, so that `flwr run --stream` and `flwr log` show it.
log = logging.getLogger("flwr.fedvitals.server")

POLL_S = 0.5
"""How often the server looks for further nodes while it waits for them."""


@dataclass
class _Heard:
    """What the nodes have answered so far.

    Attributes:
        answers: of their sites.
        nodes: how many there are, as a simulation's nodes say; 0 = not said, or not a simulation.
        failed: whether a node was refused.
    """

    answers: list[Answer] = field(default_factory=list)
    nodes: int = 0
    failed: bool = False


def gather(grid: Grid, config: RunConfig, backbone_digest: str) -> Membership:
    """Ask every node once which site it answers for, and admit them.

    In a deployment a node stands for the one site under whose name its key is registered. The run
    starts as soon as `min_sites` that can take part have answered; who comes later joins by
    `look_again`. A simulation's nodes may play several sites, and say how many nodes there are: all
    are waited for, and nothing beyond them. Which of the two it is, the SuperLink says.

    Args:
        grid: Flower's way to the nodes.
        config: the settings: how many sites a run needs and how long they are waited for.
        backbone_digest: of the run's frozen backbone.

    Returns:
        The members; admitted in an order that does not depend on who arrived first.

    Raises:
        FederationError: where too few usable sites answered in time.
    """
    membership = Membership(config, backbone_digest)
    least = config.federation.min_sites
    deadline = time.monotonic() + config.federation.wait_s
    heard = _Heard()
    while True:
        left = max(deadline - time.monotonic(), 1.0)
        roster = read_roster(grid)
        _ask_new(grid, membership, roster, left, heard)
        if heard.nodes:
            complete = len(membership.asked) >= heard.nodes
        else:
            # Those that can take part: a node that answers nonsense must not end the wait.
            complete = _usable(heard.answers, config, backbone_digest) >= least
        # Where every node of a simulation has failed, no announcement will come.
        in_vain = roster.simulated and heard.failed and not heard.answers
        if (membership.asked and complete) or in_vain or time.monotonic() >= deadline:
            break
        time.sleep(POLL_S)
    membership.admit_all(heard.answers)
    for site, why in sorted(membership.refused.items()):
        log.warning("%s does not take part: %s", site, why)
    membership.require(least)
    return membership


def look_again(grid: Grid, membership: Membership, wait_s: float) -> None:
    """Take in the sites whose nodes have come since: late ones, and ones that are back.

    Args:
        grid: Flower's way to the nodes.
        membership: the members, to which the new ones are added.
        wait_s: the longest wait for their answers.
    """
    roster = read_roster(grid)
    if set(roster.names) <= membership.asked:
        return
    before = set(membership.members.items())
    heard = _Heard()
    _ask_new(grid, membership, roster, wait_s, heard)
    membership.admit_all(heard.answers, set(roster.names))
    for name, member in sorted(membership.members.items()):
        if (name, member) not in before:
            log.info("site %s takes part from now on", name)


def _ask_new(
    grid: Grid, membership: Membership, roster: Roster, wait_s: float, heard: _Heard
) -> None:
    """Ask the nodes that were not asked yet, and add what they say."""
    new = sorted(set(roster.names) - membership.asked)
    membership.asked |= set(new)
    asked = [node for node in new if roster.simulated or roster.names[node]]
    for node in sorted(set(new) - set(asked)):
        reason = "its key is registered under no site's name; see `python -m server sites add`"
        membership.refuse(roster.label(node), reason)
    questions = [(node, RecordDict()) for node in asked]
    for index, reply in exchange(grid, questions, MessageType.QUERY, wait_s):
        node = asked[index]
        try:
            heard.answers += _sites(node, roster, reply)
        except JoinError as error:
            heard.failed = True
            membership.refuse(roster.label(node), str(error))
            continue
        if roster.simulated:
            heard.nodes = max(heard.nodes, announced_nodes(reply))


def _sites(node: int, roster: Roster, reply: Message) -> list[Answer]:
    if reply.has_error():
        raise JoinError(f"it failed: {printable(reply.error.reason)}")
    if roster.simulated:
        return simulated_sites(node, reply)
    return [registered_site(node, roster.names[node], reply)]


def _usable(answers: list[Answer], config: RunConfig, backbone_digest: str) -> int:
    """How many sites could be admitted by these answers."""
    trial = Membership(config, backbone_digest)
    trial.admit_all(answers)
    return len(trial.members)
