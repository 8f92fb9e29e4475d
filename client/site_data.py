"""A site's own table and the windows cut from it: all that a hospital's app ever reads.

A deployed node names its table in the node's configuration, which the site alone writes. In a
simulation the nodes share out the sites of a prepared cohort: with as many nodes as sites each
plays one hospital, with fewer some play several, one after the other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from common.cohort_folder import site_table_paths
from common.config import RunConfig, WindowConfig
from common.errors import UsageError
from common.home import current_cohort
from common.names import check_name
from common.vitals import SiteTableInfo, read_site_table
from common.windows import Windows, make_windows


@dataclass(frozen=True)
class SiteData:
    """One site, ready to train.

    Attributes:
        info: what the site's table says of itself.
        train: windows of the training patients.
        validation: windows of the validation patients.
    """

    info: SiteTableInfo
    train: Windows
    validation: Windows


def site_tables(node: Mapping[str, Any], config: RunConfig) -> dict[str, Path]:
    """Return the tables that a node answers for, by site.

    Args:
        node: the node's configuration: `data-path` and `site-id` at a hospital, `partition-id` and
            `num-partitions` in a simulation.
        config: the run's settings; in a simulation they name the cohort.

    Raises:
        UsageError: where the node's configuration names neither.
        CohortError: where the cohort has no site tables.
    """
    if "data-path" in node:
        path = Path(str(node["data-path"]))
        return {str(node.get("site-id", path.stem)): path}
    if "partition-id" not in node:
        raise UsageError("the node's configuration has no data-path; set it to the site table")
    folder = Path(config.data) if config.data else current_cohort()
    tables = site_table_paths(folder)
    place, nodes = int(node["partition-id"]), int(node["num-partitions"])
    return dict(list(tables.items())[place::nodes])


def load_site(
    node: Mapping[str, Any], config: RunConfig, site: str, windows: WindowConfig
) -> SiteData:
    """Read one of a node's sites and cut its windows; kept for the rounds to come.

    Raises:
        UsageError: where the node does not answer for this site.
        SiteTableError: where the table is absent or not valid.
    """
    tables = site_tables(node, config)
    path = tables[check_name("site of this node", site, tables)]
    return _load(path, path.stat().st_mtime_ns if path.is_file() else 0, windows)


@lru_cache(maxsize=16)
def _load(path: Path, _modified: int, windows: WindowConfig) -> SiteData:
    # Keyed by the file, not by the node: a simulation's process serves several sites in turn.
    table = read_site_table(path)
    settings, vitals = windows.settings(), windows.names()
    train, validation = (
        make_windows(table, split, settings, vitals) for split in ("train", "validation")
    )
    return SiteData(table.info, train, validation)
