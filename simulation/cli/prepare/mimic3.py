"""`prepare mimic3` and `prepare synthetic`, whose tables have MIMIC-III's layout."""

from __future__ import annotations

import tempfile
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
    Units,
    split_units,
)
from simulation.cli.prepare.prepare_cohort import prepare_cohort

if TYPE_CHECKING:
    from common.data.cohort_writer import Cohort
    from simulation.cohorts.mimic3.cohort import Mimic3Settings

Sepsis = Annotated[
    str, typer.Option(help="Selection of patients: explicit, angus, martin, sepsis3 or none.")
]
Era = Annotated[str, typer.Option(help="all, or metavision (2008-2012) only.")]

_ROUNDS_FILL_MIN = 30
"""Least step length, in minutes, at which most steps have a value of the nurses' rounds."""

ALL_UNITS = "ccu,csru,micu,sicu,tsicu"


def prepare_mimic3(
    mimic_dir: Annotated[Path, typer.Option(help="Folder of the MIMIC-III tables.")],
    out: Out = None,
    into: Into = None,
    sepsis: Sepsis = "explicit",
    era: Era = "all",
    step_minutes: StepMinutes = 60,
    min_hours: MinHours = 12,
    units: Units = ALL_UNITS,
    memory_gb: MemoryGb = 2.0,
    group: Group = "",
    overwrite: Overwrite = False,
) -> None:
    """Prepare MIMIC-III v1.4: the five adult care units become five hospitals.

    The tables need credentialed access; the demo is open.
    """
    from simulation.cohorts.mimic3.cohort import Mimic3Settings, mimic3_cohort

    settings = Mimic3Settings(
        sepsis=sepsis,
        era=era,
        step_minutes=step_minutes,
        min_hours=min_hours,
        units=split_units(units, ALL_UNITS),
    )

    def build() -> Cohort:
        with byte_progress("reading CHARTEVENTS") as progress:
            return mimic3_cohort(mimic_dir, settings, memory_gb=memory_gb, progress=progress)

    prepare_cohort("mimic3", settings.to_json(), build, out, group, overwrite, into)


def prepare_synthetic(
    out: Out = None,
    into: Into = None,
    stays: Annotated[int, typer.Option(help="Number of ICU stays.")] = 400,
    seed: Annotated[int, typer.Option(help="Seed of all random numbers.")] = 0,
    sepsis: Sepsis = "explicit",
    era: Era = "all",
    step_minutes: StepMinutes = 60,
    min_hours: MinHours = 12,
    units: Units = ALL_UNITS,
    group: Group = "",
    overwrite: Overwrite = False,
) -> None:
    """Generate a synthetic MIMIC-III and prepare it with the code for the real one.

    Steps shorter than half an hour get a bedside monitor's readings, one a step; the nurses chart
    about every hour.
    """
    from simulation.cohorts.mimic3.cohort import Mimic3Settings

    settings = Mimic3Settings(
        sepsis=sepsis,
        era=era,
        step_minutes=step_minutes,
        min_hours=min_hours,
        units=split_units(units, ALL_UNITS),
    )
    parameters = {**settings.to_json(), "stays": stays, "seed": seed, **_monitor(settings)}
    prepare_cohort(
        "synthetic",
        parameters,
        lambda: _synthetic_cohort(settings, stays, seed),
        out,
        group,
        overwrite,
        into,
    )


def _synthetic_cohort(settings: Mimic3Settings, stays: int, seed: int) -> Cohort:
    from simulation.cohorts.mimic3.cohort import mimic3_cohort
    from simulation.cohorts.synthetic import write_synthetic_mimic

    with tempfile.TemporaryDirectory(prefix="fedvitals-synthetic-") as folder:
        write_synthetic_mimic(Path(folder), stays=stays, seed=seed, **_monitor(settings))
        cohort = mimic3_cohort(Path(folder), settings, source="synthetic")
    cohort.parameters |= {"stays": stays, "seed": seed, **_monitor(settings)}
    return cohort


def _monitor(settings: Mimic3Settings) -> dict[str, int]:
    """Return the time between a monitor's readings; empty at steps that nurses' rounds fill."""
    minutes = settings.step_minutes
    return {"monitor_minutes": minutes} if minutes < _ROUNDS_FILL_MIN else {}
