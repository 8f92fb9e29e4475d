"""`python -m simulation cost`: time and memory of LoRA against all weights, on this machine."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console

from common.config.run_config import parse_settings
from common.console import narrow_table, output_console
from simulation.cli.experiments import Out, Settings, numbers, output_folder


def cost(
    backbones: Annotated[
        str, typer.Option(help="Names or folders, separated by commas. [default: the package's]")
    ] = "",
    ranks: Annotated[str, typer.Option(help="Ranks, separated by commas.")] = "2,8,32",
    steps: Annotated[int, typer.Option(help="Training steps that are measured.")] = 10,
    out: Out = None,
    config: Settings = None,
) -> None:
    """What does a training step cost, with an adapter and with all weights? Needs no data."""
    settings = parse_settings(config or [], {})
    given = numbers(ranks, "--ranks")
    from simulation.experiments.studies.backbones import packaged_backbones
    from simulation.experiments.studies.cost import finding, measure_costs, write_costs

    names = [name.strip() for name in backbones.split(",") if name.strip()]
    names = names or packaged_backbones()
    folder = output_folder(out)
    with Console(stderr=True).status("measuring") as status:
        costs = measure_costs(settings, names, given, steps, folder, status.update)
    pairs = "".join(f" -c {pair}" for pair in config or [])
    command = f"python -m simulation cost --ranks {ranks} --steps {steps}{pairs}"
    page = write_costs(folder / "cost", costs, settings, command)
    table = narrow_table(
        f"A training step on {costs[0].device}",
        ["backbone", "trained"],
        ["numbers", "ms a step", "peak MB", "of it training"],
    )
    for one in costs:
        table.add_row(
            one.backbone,
            one.trained,
            f"{one.parameters:,}",
            f"{1e3 * one.step_s:.1f}",
            f"{one.peak_mb:.0f}",
            f"{one.above_mb:.0f}",
        )
    console = output_console()
    console.print(table)
    console.print(finding(costs), highlight=False)
    console.print(f"Page: {page}", soft_wrap=True, highlight=False)
