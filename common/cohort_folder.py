"""What a cohort folder holds: cohort.json, and DIR/sites/<site>.parquet, one table a site."""

from __future__ import annotations

from pathlib import Path

from common.errors import CohortError

COHORT_FILE = "cohort.json"
SITES_FOLDER = "sites"


def site_table_paths(folder: Path) -> dict[str, Path]:
    """Return a cohort's site tables by site, in the order of their names.

    Raises:
        CohortError: where the folder holds none.
    """
    paths = sorted((folder / SITES_FOLDER).glob("*.parquet"))
    if not paths:
        raise CohortError(f"{folder} holds no cohort; make one with `python -m simulation prepare`")
    return {path.stem: path for path in paths}
