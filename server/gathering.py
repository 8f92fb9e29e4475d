"""The sites of a run are gathered: nodes are awaited within bounds and asked what they bring."""

from __future__ import annotations

import logging
import time
from typing import Any

from flwr.app import Message, MessageType, RecordDict
from flwr.serverapp import Grid

from common.config import FederationConfig
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


def gather(grid: Grid, config: FederationConfig, backbone_digest: str) -> Membership:
    """Ask every node once which sites it answers for, and admit them.

    A simulation's nodes say how many they are: all are waited for, and nothing beyond them. A
    deployment starts as soon as `min_sites` have answered.

    Args:
        grid: Flower's way to the nodes.
        config: how many sites a run needs and how long they are waited for.
        backbone_digest: of the run's frozen backbone.

    Returns:
        The members; admitted in the order of their names, so that who arrived first decides
        nothing.

    Raises:
        FederationError: where too few usable sites answered in time.
    """
    deadline = time.monotonic() + config.wait_s
    asked: set[int] = set()
    answers: list[Answer] = []
    failures: dict[str, str] = {}
    announced = 0
    while True:
        new = sorted(set(grid.get_node_ids()) - asked)
        asked |= set(new)
        left = max(deadline - time.monotonic(), 1.0)
        questions = [(node, RecordDict()) for node in new]
        for index, reply in exchange(grid, questions, MessageType.QUERY, left):
            if reply.has_error():
                failures[f"node {new[index]}"] = f"it failed: {printable(reply.error.reason)}"
                continue
            answers += _sites(new[index], reply)
            announced = max(announced, _nodes(reply))
        complete = len(asked) >= announced if announced else len(answers) >= config.min_sites
        # Where every node has failed, no announcement will come: a simulation would wait in vain.
        if (asked and complete) or (failures and not answers) or time.monotonic() >= deadline:
            break
        time.sleep(POLL_S)
    membership = Membership(backbone_digest, failures)
    for name, node, said in sorted(answers, key=lambda answer: answer[:2]):
        membership.admit(name, node, said)
    for site, why in sorted(membership.refused.items()):
        log.warning("%s does not take part: %s", site, why)
    membership.require(config.min_sites)
    return membership


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
