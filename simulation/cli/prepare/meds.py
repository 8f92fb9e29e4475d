"""`prepare meds`: events in the Medical Event Data Standard."""

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


def prepare_meds(
    meds_dir: Annotated[Path, typer.Option(help="Folder of the MEDS data, or a file of events.")],
    codes: Annotated[
        Path | None,
        typer.Option(
            help="Table of codes, in TOML. [default: the codes of MIMIC-IV]", show_default=False
        ),
    ] = None,
    out: Out = None,
    into: Into = None,
    step_minutes: StepMinutes = 60,
    min_hours: MinHours = 12,
    memory_gb: MemoryGb = 2.0,
    group: Group = "",
    overwrite: Overwrite = False,
) -> None:
    """Prepare MEDS events: care units, or any other code, become hospitals.

    A table of codes names those of stays, sites and vital signs.
    """
    from simulation.cohorts.meds.codes import MIMIC_IV_CODES, read_codes
    from simulation.cohorts.meds.cohort import MedsSettings, meds_cohort

    settings = MedsSettings(step_minutes, min_hours)
    table = read_codes(codes or MIMIC_IV_CODES)

    def build() -> Cohort:
        with byte_progress("reading the events") as progress:
            return meds_cohort(meds_dir, table, settings, memory_gb=memory_gb, progress=progress)

    prepare_cohort("meds", settings.to_json(table), build, out, group, overwrite, into)
