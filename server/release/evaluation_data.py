"""Site tables that an adapter is evaluated on, cut into windows."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from common.config.run_config import WindowConfig
from common.data.cohort_folder import site_table_paths
from common.data.site_table import SiteTable, SiteTableInfo, read_site_table
from common.data.windows import Windows, windows_by_split
from common.errors import UsageError
from common.files.hashing import file_sha256


@dataclass(frozen=True, eq=False)
class EvaluationSite:
    """Windows of one site of the evaluation cohort.

    Attributes:
        info: metadata of its table.
        sha256: digest of the table's file.
        windows: windows of the evaluated split.
        train: windows of the training patients, for the spread of the baselines.
    """

    info: SiteTableInfo
    sha256: str
    windows: Windows
    train: Windows


def read_evaluation_sites(
    data: Path, split: str, windows: WindowConfig, step_minutes: int | None = None
) -> dict[str, EvaluationSite]:
    """Read the site tables and cut the windows of a split.

    Args:
        data: a cohort folder or one site table.
        split: one of `common.data.splits.SPLITS`.
        windows: lengths and vitals of the windows.
        step_minutes: length of a time step in the adapter's training, if known.

    Raises:
        CohortError: there is no site table.
        SiteTableError: a table breaks the schema.
        UsageError: a table's time step differs from the run's, or from the other tables'.
    """
    sites = {}
    for name, path in evaluation_tables_of(data).items():
        table = read_site_table(path)
        step_minutes = step_minutes or table.info.step_minutes
        if table.info.step_minutes != step_minutes:
            raise UsageError(
                f"{path} has steps of {table.info.step_minutes} min, expected {step_minutes} min; "
                f"prepare it with --step-minutes {step_minutes}"
            )
        sites[name] = _cut(table, file_sha256(path), split, windows)
    return sites


def evaluation_tables_of(data: Path) -> dict[str, Path]:
    """Return the site tables of a cohort folder by site, or a single site table."""
    return {data.stem: data} if data.is_file() else site_table_paths(data)


def _cut(table: SiteTable, sha256: str, split: str, config: WindowConfig) -> EvaluationSite:
    cut = windows_by_split(table, (split, "train"), config.settings(), config.names())
    return EvaluationSite(table.info, sha256, cut[split], cut["train"])
