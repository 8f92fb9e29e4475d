"""The sites of a run are gathered: nodes are awaited within bounds and asked what they bring."""

from __future__ import annotations

import logging
import time
from typing import Any

from flwr.app import Message, MessageType, RecordDict
from flwr.serverapp import Grid

from common.config import RunConfig
from server.admission import printable
from server.exchange import exchange
from server.sites import Membership

# Below Flower's own logger, so that `flwr run --stream` and `flwr log` show it.
log = logging.getLogger("flwr.fedvitals.server")

POLL_S = 0.5
"""How often the server looks for further nodes while it waits for them."""
_SITE = "site."

Answer = tuple[str, int, dict[str, Any]]
"""A site's name, the node that answers for it, and what it said of itself."""


def gather(grid: Grid, config: RunConfig, backbone_digest: str) -> Membership:
    """Ask every node once which sites it answers for, and admit them.

    A simulation's nodes say how many they are: all are waited for, and nothing beyond them. A
    deployment starts as soon as `min_sites` have answered; who comes later joins by `look_again`.

    Args:
        grid: Flower's way to the nodes.
        config: the settings: how many sites a run needs and how long they are waited for.
        backbone_digest: of the run's frozen backbone.

    Returns:
        The members; admitted in the order of their names, so that who arrived first decides
        nothing.

    Raises:
        FederationError: where too few usable sites answered in time.
    """
    membership = Membership(config, backbone_digest)
    least = config.federation.min_sites
    deadline = time.monotonic() + config.federation.wait_s
    answers: list[Answer] = []
    announced = 0
    while True:
        left = max(deadline - time.monotonic(), 1.0)
        new, nodes = _ask_new(grid, membership, left)
        answers += new
        announced = max(announced, nodes)
        asked = membership.asked
        complete = len(asked) >= announced if announced else len(answers) >= least
        # Where every node has failed, no announcement will come: a simulation would wait in vain.
        failed = bool(membership.refused) and not answers
        if (asked and complete) or failed or time.monotonic() >= deadline:
            break
        time.sleep(POLL_S)
    for name, node, said in sorted(answers, key=lambda answer: answer[:2]):
        membership.admit(name, node, said)
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
    present = set(grid.get_node_ids())
    if present <= membership.asked:
        return
    before = set(membership.members.items())
    answers, _ = _ask_new(grid, membership, wait_s)
    for name, node, said in sorted(answers, key=lambda answer: answer[:2]):
        membership.admit(name, node, said, present)
    for name, member in sorted(membership.members.items()):
        if (name, member) not in before:
            log.info("site %s takes part from now on", name)


def _ask_new(grid: Grid, membership: Membership, wait_s: float) -> tuple[list[Answer], int]:
    """Ask the nodes that were not asked yet; return the answers and how many nodes there are."""
    new = sorted(set(grid.get_node_ids()) - membership.asked)
    membership.asked |= set(new)
    answers: list[Answer] = []
    announced = 0
    questions = [(node, RecordDict()) for node in new]
    for index, reply in exchange(grid, questions, MessageType.QUERY, wait_s):
        if reply.has_error():
            reason = f"it failed: {printable(reply.error.reason)}"
            membership.refused[f"node {new[index]}"] = reason
            continue
        answers += _sites(new[index], reply)
        announced = max(announced, _nodes(reply))
    return answers, announced


def _sites(node: int, reply: Message) -> list[Answer]:
    return [
        (name.removeprefix(_SITE), node, dict(said))
        for name, said in reply.content.config_records.items()
        if name.startswith(_SITE)
    ]


def _nodes(reply: Message) -> int:
    records = reply.content.config_records
    nodes = records["node"].get("nodes", 0) if "node" in records else 0
    return nodes if isinstance(nodes, int) else 0
