"""`python -m simulation run`: the federation over a prepared cohort, evaluated, with a report."""

from __future__ import annotations

import time
from pathlib import Path
from secrets import token_hex
from typing import Annotated

import typer
from rich.console import Console

from common.console import output_console
from common.home import current_cohort, home
from common.settings import parse_settings

Data = Annotated[Path | None, typer.Option(help="Cohort folder. [default: the one prepared last]")]
Out = Annotated[Path | None, typer.Option(help="Run folder. [default: FEDVITALS_HOME/runs/TIME]")]
Engine = Annotated[str, typer.Option(help="inprocess, or ray (`flwr run`, a process a client).")]
Backbone = Annotated[str | None, typer.Option(help="A known backbone, or a folder of weights.")]
Rounds = Annotated[int | None, typer.Option(help="Rounds of the federation.")]
Seed = Annotated[int | None, typer.Option(help="Seed of everything random.")]
Settings = Annotated[
    list[str] | None,
    typer.Option("-c", "--config", metavar="KEY=VALUE", help="Any setting, as often as needed."),
]


def run(
    data: Data = None,
    out: Out = None,
    engine: Engine = "inprocess",
    backbone: Backbone = None,
    rounds: Rounds = None,
    seed: Seed = None,
    config: Settings = None,
) -> None:
    """Train one global adapter over the sites of a cohort, evaluate it and write a report."""
    options = {
        "data": str(data or current_cohort()),
        "out": str(out or home() / "runs" / f"{time.strftime('%Y%m%d-%H%M%S')}-{token_hex(2)}"),
        "backbone": backbone,
        "rounds": rounds,
        "seed": seed,
    }
    given = {key: value for key, value in options.items() if value is not None}
    settings = parse_settings(config or [], given)

    from server.global_evaluation import evaluate_run
    from server.tables import evaluation_tables
    from simulation.engines.inprocess import quiet_flower
    from simulation.federate import federate
    from simulation.progress import RunProgress

    console = output_console()
    if console.is_terminal:
        quiet_flower()  # the bar tells what its lines would
    progress = RunProgress(Path(settings.out), settings.rounds, Console(stderr=True))
    with progress.shown():
        folder = federate(settings, engine, progress)
    with console.status("evaluating on the test split"):
        result = evaluate_run(folder, Path(settings.data))
    for table in evaluation_tables(result):
        console.print(table)
    console.print(f"Adapter: {folder / 'adapter'}", soft_wrap=True, highlight=False)
    console.print(f"Report:  {folder / 'report.html'}", soft_wrap=True, highlight=False)
