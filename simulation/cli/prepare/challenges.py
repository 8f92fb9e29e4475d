"""`prepare challenge-2019` and `prepare challenge-2012`: the open PhysioNet/CinC challenges."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from common.console import byte_progress
from simulation.cli.prepare.options import Group, Into, MinHours, Out, Overwrite, StepMinutes
from simulation.cli.prepare.prepare_cohort import prepare_cohort

if TYPE_CHECKING:
    from common.data.cohort_writer import Cohort

ChallengeSource = Annotated[
    list[Path],
    typer.Option(
        "--source", help="An archive of the challenge, or its unpacked folder; may be repeated."
    ),
]


def prepare_challenge_2019(
    sources: ChallengeSource,
    out: Out = None,
    into: Into = None,
    sites: Annotated[
        str, typer.Option(help="What makes a site: unit (of a hospital) or hospital.")
    ] = "unit",
    sepsis: Annotated[
        str, typer.Option(help="Selection of patients: label (any SepsisLabel) or none.")
    ] = "label",
    step_minutes: StepMinutes = 60,
    min_hours: MinHours = 12,
    group: Group = "",
    overwrite: Overwrite = False,
) -> None:
    """Prepare the PhysioNet/CinC Challenge 2019: sites by hospital and unit, or by hospital."""
    from simulation.cohorts.physionet_challenge import challenge_2019

    parameters = {
        "sites": sites,
        "sepsis": sepsis,
        "step_minutes": step_minutes,
        "min_hours": min_hours,
    }

    def build() -> Cohort:
        with byte_progress("reading the archive") as progress:
            return challenge_2019(
                *sources,
                sites=sites,
                sepsis=sepsis,
                step_minutes=step_minutes,
                min_hours=min_hours,
                progress=progress,
            )

    prepare_cohort("challenge-2019", parameters, build, out, group, overwrite, into)


def prepare_challenge_2012(
    sources: ChallengeSource,
    out: Out = None,
    into: Into = None,
    step_minutes: StepMinutes = 60,
    min_hours: MinHours = 12,
    group: Group = "",
    overwrite: Overwrite = False,
) -> None:
    """Prepare the PhysioNet/CinC Challenge 2012: sites by unit type, first 48 hours."""
    from simulation.cohorts.physionet_challenge import challenge_2012

    parameters = {"step_minutes": step_minutes, "min_hours": min_hours}

    def build() -> Cohort:
        with byte_progress("reading the archive") as progress:
            return challenge_2012(
                *sources, step_minutes=step_minutes, min_hours=min_hours, progress=progress
            )

    prepare_cohort("challenge-2012", parameters, build, out, group, overwrite, into)
