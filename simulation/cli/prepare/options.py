"""Options that the sources' commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from common.errors import UsageError

Out = Annotated[
    Path | None,
    typer.Option(help="The cohort folder. [default: FEDVITALS_HOME/cohorts/SOURCE]"),
]
Into = Annotated[
    Path | None,
    typer.Option(
        help="A joint cohort that gets these sites, in place of --out; their names begin with the "
        "source's.",
        show_default=False,
    ),
]
Group = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        help="A group that may read the cohort. [default: its owner alone]",
        show_default=False,
    ),
]
Overwrite = Annotated[
    bool,
    typer.Option("--overwrite", help="Replace the cohort in --out, or this source in --into."),
]
StepMinutes = Annotated[int, typer.Option(help="Length of a time step, in minutes.")]
MinHours = Annotated[int, typer.Option(help="Least hours with vital signs in a stay.")]
MemoryGb = Annotated[float, typer.Option(help="Memory limit of the queries, in GB.")]
Units = Annotated[str, typer.Option(help="Care units, separated by commas.")]


def split_units(units: str, known: str) -> tuple[str, ...]:
    """Return the care units of an option, in lower case.

    Args:
        units: the option's text.
        known: all units, separated by commas, for the message.

    Raises:
        UsageError: there is none.
    """
    names = tuple(unit.strip().lower() for unit in units.split(",") if unit.strip())
    if not names:
        raise UsageError(f"--units is empty; choose from {known}")
    return names
