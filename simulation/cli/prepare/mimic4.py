"""`prepare mimic4`: MIMIC-IV."""

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
    split_units,
)
from simulation.cli.prepare.prepare_cohort import prepare_cohort

if TYPE_CHECKING:
    from common.data.cohort_writer import Cohort

_ALL = "all"


def prepare_mimic4(
    mimic4_dir: Annotated[Path, typer.Option(help="Folder with MIMIC-IV's hosp and icu.")],
    out: Out = None,
    into: Into = None,
    sepsis: Annotated[
        str,
        typer.Option(
            help="Selection of patients: explicit, sepsis3, none, or, for ICD-9 alone, angus or "
            "martin."
        ),
    ] = "explicit",
    step_minutes: StepMinutes = 60,
    min_hours: MinHours = 12,
    units: Annotated[
        str,
        typer.Option(
            help="Care units, separated by commas: ccu, cvicu, micu, micu-sicu, sicu, tsicu, "
            "neuro-sicu, neuro-intermediate, neuro-stepdown."
        ),
    ] = _ALL,
    memory_gb: MemoryGb = 2.0,
    group: Group = "",
    overwrite: Overwrite = False,
) -> None:
    """Prepare MIMIC-IV v2 or v3: the nine care units become nine hospitals.

    The tables need credentialed access; the demo is open.
    """
    from simulation.cohorts.mimic4.care_units import CARE_UNITS
    from simulation.cohorts.mimic4.cohort import Mimic4Settings, mimic4_cohort

    every = ",".join(CARE_UNITS)
    settings = Mimic4Settings(
        sepsis=sepsis,
        step_minutes=step_minutes,
        min_hours=min_hours,
        units=split_units(every if units == _ALL else units, every),
    )

    def build() -> Cohort:
        with byte_progress("reading CHARTEVENTS") as progress:
            return mimic4_cohort(mimic4_dir, settings, memory_gb=memory_gb, progress=progress)

    prepare_cohort("mimic4", settings.to_json(), build, out, group, overwrite, into)
