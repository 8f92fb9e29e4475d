"""A site's data: its table, and the windows of its training and validation patients.

A deployed node names its table in the node's configuration, which only the site writes. In a
simulation the sites of a prepared cohort are divided among the nodes: with as many nodes as sites
each simulates one hospital, with fewer some simulate several, one after the other.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from client.app.node_config import NodeSettings
from common.config.run_config import RunConfig, WindowConfig
from common.data.cohort_folder import SITES_FOLDER, site_table_paths
from common.data.site_table import SiteTableInfo, read_site_table
from common.data.windows import Windows, windows_by_split
from common.errors import PrivacyError
from common.files.hashing import file_sha256
from common.files.paths import current_cohort
from common.names import check_name

CACHE_BYTES = 512 * 2**20
"""Most bytes of windows that a process keeps for later rounds, whatever the number of its sites."""


@dataclass(frozen=True)
class SiteData:
    """Data of one site.

    Attributes:
        info: metadata of the site's table.
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

    @property
    def nbytes(self) -> int:
        """Bytes of the windows."""
        return sum(
            array.nbytes
            for part in (self.train, self.validation)
            for array in (part.context, part.target, part.vital, part.patient)
        )


def site_tables(node: NodeSettings, config: RunConfig) -> dict[str, Path]:
    """Return the paths of a node's site tables, by site.

    Args:
        node: the node's own settings.
        config: the run's settings; used in a simulation only, where they name the cohort.

    Raises:
        CohortError: where the cohort has no site tables.
    """
    if node.data_path is not None:
        return {node.site_id or node.data_path.stem: node.data_path}
    folder = Path(config.data) if config.data else current_cohort()
    sites = folder / SITES_FOLDER
    modified = sites.stat().st_mtime_ns if sites.is_dir() else 0
    return dict(_listed(folder, modified)[node.place :: node.nodes])


def load_site(node: NodeSettings, config: RunConfig, site: str, windows: WindowConfig) -> SiteData:
    """Read one of a node's sites and cut its windows; cached for later rounds.

    Raises:
        UsageError: where the site is not one of the node's.
        SiteTableError: where the table is absent or not valid.
    """
    tables = site_tables(node, config)
    path = tables[check_name("site of this node", site, tables)]
    return _CACHE.load(path, path.stat().st_mtime_ns if path.is_file() else 0, windows)


@lru_cache(maxsize=1)
def _listed(folder: Path, _modified: int) -> list[tuple[str, Path]]:
    """Return a cohort's tables, listed once: each message of each site asks for them."""
    return list(site_table_paths(folder).items())


class _Cache:
    """The sites' data by file and window settings; the least recently used ones make room.

    By file, not by node: a simulation's process serves several sites in turn.
    """

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[Path, int, WindowConfig], SiteData] = OrderedDict()
        self._bytes = 0

    def load(self, path: Path, modified: int, windows: WindowConfig) -> SiteData:
        """Return a table's data, from the cache if it was read before and has not changed."""
        key = (path, modified, windows)
        data = self._kept.pop(key, None)
        if data is None:
            data = _read(path, windows)
            self._bytes += data.nbytes
        self._kept[key] = data
        while self._bytes > CACHE_BYTES:
            self._bytes -= self._kept.popitem(last=False)[1].nbytes
        return data


_CACHE = _Cache()


def _read(path: Path, windows: WindowConfig) -> SiteData:
    table = read_site_table(path)
    cut = windows_by_split(table, ("train", "validation"), windows.settings(), windows.names())
    digest = file_sha256(path)
    in_training = table.frame["split"] == "train"
    patients = int(table.frame["patient_id"][in_training].nunique())
    return SiteData(table.info, digest, cut["train"], cut["validation"], patients)


def declared_patients(node: NodeSettings, data: SiteData) -> int:
    """Return the divisor of a private step: a declared number of patients, not a count.

    A declared number is the same for every table and however windows are cut. A simulation has no
    patients to protect: where its node declares none, the table's training patients are counted.

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
