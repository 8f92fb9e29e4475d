"""Statistics of a cohort's sites in this process, counted by the code of a hospital's node."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from client.node.statistics.noise import plan_noise
from client.node.statistics.site_reply import site_statistics
from common.data.cohort_folder import site_table_paths
from common.data.demographics import read_patients
from common.data.site_table import read_site_table
from common.data.statistics.reply import LEAST_EPSILON, MOST_EPSILON, parse_site_statistics
from common.errors import UsageError


def cohort_statistics(
    folder: Path, threshold: int, epsilon: float, delta: float
) -> dict[str, dict[str, Any]]:
    """Return the statistics of each site of a cohort, as the server would have validated them.

    Args:
        folder: the cohort folder.
        threshold: fewest patients behind a count, without noise.
        epsilon: of each site's counts; 0 = exact counts without small ones.
        delta: of that guarantee.

    Raises:
        UsageError: epsilon or delta is out of range.
        CohortError, SiteTableError: the folder or a table in it is not valid.
        PrivacyError: no noise reaches epsilon.
    """
    if epsilon != 0 and not LEAST_EPSILON <= epsilon <= MOST_EPSILON:
        raise UsageError(
            f"--epsilon must be 0, or from {LEAST_EPSILON} to {MOST_EPSILON:g}, got {epsilon:g}"
        )
    if not 0 < delta < 1:
        raise UsageError(f"--delta must be between 0 and 1, got {delta:g}")
    paths = site_table_paths(folder)
    described = read_patients(folder)
    plan = plan_noise(epsilon, delta) if epsilon else None
    found = {}
    for name, path in paths.items():
        table = read_site_table(path)
        site = site_statistics(
            table,
            threshold,
            plan,
            source=table.info.source,
            rule=table.info.cohort_rule,
            described=described,
        )
        found[name] = parse_site_statistics(site.text())
    return found
