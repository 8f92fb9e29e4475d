"""`python -m simulation compare`: simple forecasts, sites alone, federated, pooled."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console

from simulation.cli.experiments import (
    Data,
    FullRate,
    Out,
    Seeds,
    Settings,
    run_and_tell,
    settings_of,
)
from simulation.experiments.defaults import FULL_RATE, SEEDS

Without = Annotated[
    list[str] | None,
    typer.Option(
        "--without",
        metavar="METHOD",
        help="Leave out last-value, ewma, ar, ets, federated-full, centralised-full, scratch, "
        "nhits or patchtst.",
    ),
]


def compare(
    data: Data = None,
    out: Out = None,
    full_rate: FullRate = FULL_RATE,
    without: Without = None,
    seeds: Seeds = SEEDS,
    config: Settings = None,
) -> None:
    """How much of what pooling all data gains does the federation keep, and who gains least?"""
    settings = settings_of(data, config)
    from simulation.experiments.models.registry import METHODS, method_of, missing_methods
    from simulation.experiments.studies.comparison import comparison, show

    for name in without or []:
        method_of(name)
    kept = [name for name in METHODS if name not in (without or [])]
    missing = [name for name in missing_methods() if name in kept]
    if missing:
        Console(stderr=True).print(
            f"Left out, since their packages are not installed: {', '.join(missing)}; "
            'pip install "fedvitals[experiments]"',
            markup=False,
            highlight=False,
        )
    more = "".join(f" --without {name}" for name in without or [])
    run_and_tell(
        comparison(settings, kept, full_rate),
        show,
        seeds=seeds,
        out=out,
        name=f"compare --full-rate {full_rate:g}{more}",
        config=config,
    )
