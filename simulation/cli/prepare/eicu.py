"""`prepare eicu`: the eICU Collaborative Research Database, 208 hospitals."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from common.console import byte_progress
from simulation.cli.prepare.options import (
    Group,
    Into,
    MemoryGb,
    MinHours,
    Out,
    Overwrite,
    StepMinutes,
)
from simulation.cli.prepare.prepare_cohort import prepare_cohort

if TYPE_CHECKING:
    from common.data.cohort_writer import Cohort


def prepare_eicu(
    eicu_dir: Annotated[Path, typer.Option(help="Folder of the eICU-CRD tables.")],
    out: Out = None,
    into: Into = None,
    sites: Annotated[
        str, typer.Option(help="What a site is: hospital, region, unit, bed-size or teaching.")
    ] = "hospital",
    min_stays: Annotated[
        int, typer.Option(help="Hospitals with fewer stays are left out; 0 = none.")
    ] = 0,
    sepsis: Annotated[
        str, typer.Option(help="Selection of patients: apache, icd9, diagnosis or none.")
    ] = "apache",
    step_minutes: StepMinutes = 60,
    min_hours: MinHours = 12,
    memory_gb: MemoryGb = 2.0,
    group: Group = "",
    overwrite: Overwrite = False,
) -> None:
    """Prepare eICU-CRD v2.0: each of the 208 hospitals is a site.

    The tables need credentialed access; the demo is open.
    """
    from simulation.cohorts.eicu.cohort import EicuSettings, eicu_cohort

    settings = EicuSettings(sites, min_stays, sepsis, step_minutes, min_hours)

    def build() -> Cohort:
        with byte_progress("reading the vital signs") as progress:
            return eicu_cohort(eicu_dir, settings, memory_gb=memory_gb, progress=progress)

    prepare_cohort("eicu", settings.to_json(), build, out, group, overwrite, into)
