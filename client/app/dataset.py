"""A site's own table and the windows cut from it: all that a hospital's app ever reads.

A deployed node names its table in the node's configuration, which the site alone writes. In a
simulation the nodes share out the sites of a prepared cohort: with as many nodes as sites each
plays one hospital, with fewer some play several, one after the other.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from client.app.node_config import NodeSettings
from common.config.run_config import RunConfig, WindowConfig
from common.data.cohort_folder import site_table_paths
from common.data.site_table import SiteTableInfo, read_site_table
from common.data.windows import Windows, windows_by_split
from common.errors import PrivacyError
from common.hashing import file_sha256
from common.names import check_name
from common.paths import current_cohort


@dataclass(frozen=True)
class SiteData:
    """One site, ready to train.

    Attributes:
        info: what the site's table says of itself.
        digest: SHA-256 of the table's file.
        train: windows of the training patients.
        validation: windows of the validation patients.
        training_patients: the table's training patients, also those without a window.
    """

    info: SiteTableInfo
    digest: str
    train: Windows
    validation: Windows
    training_patients: int


def site_tables(node: NodeSettings, config: RunConfig) -> dict[str, Path]:
    """Return the tables that a node answers for, by site.

    Args:
        node: the node's own settings.
        config: the run's settings; in a simulation they name the cohort.

    Raises:
        CohortError: where the cohort has no site tables.
    """
    if node.data_path is not None:
        return {node.site_id or node.data_path.stem: node.data_path}
    folder = Path(config.data) if config.data else current_cohort()
    return dict(list(site_table_paths(folder).items())[node.place :: node.nodes])


def load_site(node: NodeSettings, config: RunConfig, site: str, windows: WindowConfig) -> SiteData:
    """Read one of a node's sites and cut its windows; kept for the rounds to come.

    Raises:
        UsageError: where the node does not answer for this site.
        SiteTableError: where the table is absent or not valid.
    """
    tables = site_tables(node, config)
    path = tables[check_name("site of this node", site, tables)]
    return _load(path, path.stat().st_mtime_ns if path.is_file() else 0, windows)


def declared_patients(node: NodeSettings, data: SiteData) -> int:
    """Return the number of patients by which a private step is divided; never a counted one.

    A hospital declares it, so that it is the same whoever is in the table and however windows are
    cut. A simulation has nobody to protect: unless its node declares one, it takes the table's.

    Raises:
        PrivacyError: where a hospital declares none.
    """
    if node.patients:
        return node.patients
    if node.simulated:
        return data.training_patients
    raise PrivacyError(
        "this site declares no number of patients, by which a private step is divided; set "
        "patients in [site] of site.toml, rounded down as you like"
    )


@lru_cache(maxsize=16)
def _load(path: Path, _modified: int, windows: WindowConfig) -> SiteData:
    # Keyed by the file, not by the node: a simulation's process serves several sites in turn.
    table = read_site_table(path)
    cut = windows_by_split(table, ("train", "validation"), windows.settings(), windows.names())
    digest = file_sha256(path)
    in_training = table.frame["split"] == "train"
    patients = int(table.frame["patient_id"][in_training].nunique())
    return SiteData(table.info, digest, cut["train"], cut["validation"], patients)
