"""Flower's node configuration: the settings of a site's app, which the site alone writes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field, field_validator

from common.config.field_types import Count, FilePath, PrivacyDelta, invalid
from common.config.run_config import RunConfig
from common.config.sections import MAX_RANK
from common.config.strict_model import StrictModel
from common.errors import UsageError
from common.files.paths import STATE_FOLDER, home


class NodeSettings(StrictModel, strict=False, coerce_numbers_to_str=True):
    """A node's own settings; numbers may come as text, as Flower's command line gives them.

    Attributes:
        data_path: the site table; None in a simulation, whose nodes share out a cohort.
        site_id: the site's name in runs; empty = the table's name.
        state_path: folder of the site's state between rounds.
        lora_rank: rank of the site's adapter, within what the run allows; 0 = the run's.
        epsilon_limit: budget of the site over all runs; 0 = none.
        epsilon_limit_delta: delta of that budget.
        patients: training patients that the site declares, rounded down if it likes; under privacy
            every step is divided by it; 0 = not declared.
        allow: names of numbers that may leave though privacy is on, separated by commas.
        place: index of a simulated node, the key partition-id.
        nodes: number of simulated nodes, the key num-partitions; 0 at a hospital.
    """

    data_path: FilePath | None = None
    site_id: str = ""
    state_path: FilePath
    lora_rank: int = Field(default=0, ge=0, le=MAX_RANK)
    epsilon_limit: float = Field(default=0.0, ge=0)
    epsilon_limit_delta: PrivacyDelta = 1e-5
    patients: Count = 0
    allow: str = ""
    place: Count = Field(default=0, alias="partition-id")
    nodes: Count = Field(default=0, alias="num-partitions")

    @field_validator("*", mode="before")
    @classmethod
    def _refuse_flags(cls, value: object) -> object:
        if isinstance(value, bool):  # a number, to pydantic where it is not strict
            raise invalid(f"must not be a truth value, got {value}")
        return value

    @property
    def simulated(self) -> bool:
        """True for a node that plays hospitals of a prepared cohort."""
        return self.data_path is None


def read_node_settings(node: Mapping[str, Any], config: RunConfig, run: str) -> NodeSettings:
    """Read a node's configuration.

    Args:
        node: the configuration that Flower gives the app.
        config: the run's settings; a simulated site keeps its state in the run's folder.
        run: the run's name, where `config.out` is empty.

    Raises:
        UsageError: a key is unknown, a value is invalid, or there is no site table.
    """
    simulated = "data-path" not in node
    # A simulated run is a world of its own; a hospital's state outlives every run.
    default = (Path(config.out) if config.out else home() / "runs" / run) if simulated else home()
    values = {"state-path": default / STATE_FOLDER, "num-partitions": 1, **node}
    if not simulated:
        values["num-partitions"] = 0
    settings = NodeSettings.load(values, UsageError, "the node's configuration")
    if simulated and "partition-id" not in node:
        raise UsageError("the node's configuration has no data-path; set it to the site table")
    return settings
