"""Summary of site tables: patients, stays, hours, and the share of steps observed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.table import Table

from common.console import narrow_table
from common.data.cohort_folder import site_table_paths
from common.data.site_table import SiteTable, read_site_table
from common.data.splits import SPLITS
from common.data.vitals import VITAL_NAMES, VITALS


def sites_table(folder: Path) -> Table:
    """Return a console table of the sites of a cohort, read from the site tables themselves.

    Raises:
        CohortError, SiteTableError: the folder or a table in it is not valid.
    """
    numbers = ("patients", "split", "stays", "hours", *(vital.short for vital in VITALS))
    table = narrow_table(
        "Sites (split: train/validation/test patients; vital signs: % of steps observed)",
        ["site"],
        numbers,
    )
    for site, path in site_table_paths(folder).items():
        summary = summarise(read_site_table(path))
        per_split = summary["patients_per_split"]
        table.add_row(
            site,
            str(summary["patients"]),
            "/".join(str(per_split[split]) for split in SPLITS),
            *(f"{summary[key]:.0f}" for key in ("stays", "hours")),
            *(f"{100 * share:.0f}" for share in summary["observed"].values()),
        )
    return table


def summarise(table: SiteTable) -> dict[str, Any]:
    """Return patients, stays, hours and the share of steps observed, as plain values."""
    frame = table.frame
    per_split = frame.groupby("split")["patient_id"].nunique()
    return {
        "patients": int(frame["patient_id"].nunique()),
        "stays": int(frame["stay_id"].nunique()),
        "hours": len(frame) * table.info.step_minutes / 60,
        "patients_per_split": {split: int(per_split.get(split, 0)) for split in SPLITS},
        "observed": {name: round(float(frame[name].notna().mean()), 4) for name in VITAL_NAMES},
    }
