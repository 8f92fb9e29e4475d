"""The nodes of a run as the SuperLink knows them: not as they call themselves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from flwr.serverapp import Grid
from flwr.supercore.constant import TaskType

from server.rounds.site_registry import is_site_name


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
