"""What a site itself sets: Flower's node configuration, which the site alone writes.

data-path             the site table; absent in a simulation, whose nodes share out a cohort
site-id               the site's name in runs; default: the table's name
state-path            folder of what the site keeps between rounds
lora-rank             rank of the site's adapter, within what the run allows
epsilon-limit         budget of the site over all runs; 0 = none set
epsilon-limit-delta   the delta at which that budget counts
patients              the number of training patients that the site declares, rounded down as it
                      likes; under privacy every step is divided by it; 0 = not declared
allow                 names of numbers that may leave though privacy is on, separated by commas
partition-id          a simulated node's place
num-partitions        how many simulated nodes there are
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.config.run_config import RunConfig
from common.errors import UsageError
from common.names import check_name
from common.paths import home

KNOWN = (
    "data-path",
    "site-id",
    "state-path",
    "lora-rank",
    "patients",
    "epsilon-limit",
    "epsilon-limit-delta",
    "allow",
    "partition-id",
    "num-partitions",
)


@dataclass(frozen=True)
class NodeSettings:
    """A node's own settings.

    Attributes:
        data_path: the site table; None in a simulation.
        site_id: the site's name; empty = by its table.
        state_path: folder of what the site keeps between rounds.
        lora_rank: rank of the site's adapter; 0 = the run's.
        epsilon_limit: budget over all runs; 0 = none.
        epsilon_limit_delta: the delta at which the budget counts.
        patients: the number of training patients that the site declares; 0 = none.
        allow: names of numbers that may leave though privacy is on, separated by commas.
        place: which simulated node it is.
        nodes: how many simulated nodes there are; 0 at a hospital.
    """

    data_path: Path | None
    site_id: str
    state_path: Path
    lora_rank: int = 0
    epsilon_limit: float = 0.0
    epsilon_limit_delta: float = 1e-5
    patients: int = 0
    allow: str = ""
    place: int = 0
    nodes: int = 0

    @property
    def simulated(self) -> bool:
        """Whether the node plays hospitals of a prepared cohort."""
        return self.data_path is None


def read_node_settings(node: Mapping[str, Any], config: RunConfig, run: str) -> NodeSettings:
    """Read a node's configuration.

    Args:
        node: as Flower hands it to the app.
        config: the run's settings; a simulated site keeps its state in the run's folder.
        run: the run's name, where `config.out` is empty.

    Raises:
        UsageError: a key is unknown or a value cannot be, or there is no site table.
    """
    for key in node:
        check_name("node setting", key, KNOWN)
    if "data-path" not in node and "partition-id" not in node:
        raise UsageError("the node's configuration has no data-path; set it to the site table")
    simulated = "data-path" not in node
    # A simulated run is a world of its own; a hospital's state outlives every run.
    default = (Path(config.out) if config.out else home() / "runs" / run) if simulated else home()
    return NodeSettings(
        data_path=None if simulated else Path(str(node["data-path"])),
        site_id=str(node.get("site-id", "")),
        state_path=Path(str(node.get("state-path", default / "site"))),
        lora_rank=_whole(node, "lora-rank"),
        epsilon_limit=_number(node, "epsilon-limit", 0.0),
        epsilon_limit_delta=_number(node, "epsilon-limit-delta", 1e-5),
        patients=_whole(node, "patients"),
        allow=str(node.get("allow", "")),
        place=int(_number(node, "partition-id", 0)),
        nodes=int(_number(node, "num-partitions", 1)) if simulated else 0,
    )


def _whole(node: Mapping[str, Any], key: str) -> int:
    value = _number(node, key, 0.0)
    if value != int(value):
        raise UsageError(f"the node's {key} must be a whole number, got {value:g}")
    return int(value)


def _number(node: Mapping[str, Any], key: str, default: float) -> float:
    try:
        value = float(node.get(key, default))
    except (TypeError, ValueError):
        value = float("nan")
    if not 0 <= value < float("inf"):
        raise UsageError(f"the node's {key} must be a number of at least 0, got {node[key]!r}")
    return value
