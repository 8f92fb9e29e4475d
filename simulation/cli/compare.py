"""`python -m simulation compare`: simple forecasts, sites alone, federated, pooled."""

from __future__ import annotations

from typing import Annotated

import typer

from common.console import ExportFolder, error_console
from simulation.cli.experiments import Data, FullRate, Out, Seeds, Settings, run_and_print
from simulation.experiments.defaults import FULL_RATE, SEEDS

Without = Annotated[
    list[str] | None,
    typer.Option(
        "--without",
        metavar="METHOD",
        help="Leave out last-value, ewma, ar, ets, federated-full, centralised-full, scratch, "
        "nhits or patchtst; repeatable.",
    ),
]


def compare(
    data: Data = None,
    out: Out = None,
    full_rate: FullRate = FULL_RATE,
    without: Without = None,
    seeds: Seeds = SEEDS,
    config: Settings = None,
    export: ExportFolder = None,
) -> None:
    """Compare the federation with simple forecasts, each site alone and pooled data."""
    from simulation.experiments.models.registry import method_of, missing_methods
    from simulation.experiments.studies.comparison import STUDY

    dropped = tuple(without or [])
    for name in dropped:
        method_of(name)  # an unknown one ends the command here
    missing = [name for name in missing_methods() if name not in dropped]
    if missing:
        error_console().print(
            f"Left out, since their packages are not installed: {', '.join(missing)}; "
            'pip install "fedvitals[experiments]"',
            markup=False,
            highlight=False,
        )
    options = {"full_rate": full_rate, "without": dropped}
    run_and_print(STUDY, options, data=data, out=out, seeds=seeds, config=config, export=export)
