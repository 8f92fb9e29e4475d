"""`python -m simulation cost`: time and memory of LoRA and of all weights, on this machine."""

from __future__ import annotations

from typing import Annotated

import typer

from common.config.run_config import parse_settings
from common.console import ExportFolder, narrow_table, output_console, print_line, working
from simulation.cli.experiments import (
    Out,
    Settings,
    kept_cells,
    output_folder,
    parse_backbones,
    parse_numbers,
)


def cost(
    backbones: Annotated[
        str,
        typer.Option(help="Names or folders, separated by commas.", show_default="the package's"),
    ] = "",
    ranks: Annotated[str, typer.Option(help="Ranks, separated by commas.")] = "2,8,32",
    steps: Annotated[int, typer.Option(help="Training steps to measure.")] = 10,
    out: Out = None,
    config: Settings = None,
    export: ExportFolder = None,
) -> None:
    """Measure a training step with an adapter and with all weights. Needs no data."""
    settings = parse_settings(config or [], {})
    given = parse_numbers(ranks, "--ranks")
    names = parse_backbones(backbones)
    from common.reporting.export.export import check_export_folder, export_summary
    from simulation.experiments.studies.cost import cost_statement, measure_costs, write_costs

    if export is not None:
        check_export_folder(export)
    folder = output_folder(out)
    with kept_cells(folder), working("measuring") as update:
        costs = measure_costs(settings, names, given, steps, folder, update)
    pairs = "".join(f" -c {pair}" for pair in config or [])
    command = f"python -m simulation cost --ranks {ranks} --steps {steps}{pairs}"
    page = write_costs(folder / "cost", costs, settings, command, export)
    table = narrow_table(
        f"A training step on {costs[0].device}",
        ["backbone", "trained"],
        ["numbers", "ms per step", "peak MB", "training MB"],
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
    console.print(cost_statement(costs), highlight=False)
    console.print(f"Page: {page}", soft_wrap=True, highlight=False)
    if export is not None:
        print_line(export_summary(export))
