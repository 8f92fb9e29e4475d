"""`python -m simulation pretrain`: pretrain a small backbone on synthetic series."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from common.console import error_console, is_live, print_line
from common.interrupts import left_when_stopped

_Name = Annotated[str, typer.Argument(help="E.g. chronos-bolt-nano.")]
_Out = Annotated[
    Path | None,
    typer.Option(help="Folder for the weights.", show_default="that of the shipped weights"),
]
_Steps = Annotated[int | None, typer.Option(help="Optimiser steps.", show_default="the recipe's")]
_Seed = Annotated[int | None, typer.Option(help="Seed.", show_default="the recipe's")]


def pretrain(name: _Name, out: _Out = None, steps: _Steps = None, seed: _Seed = None) -> None:
    """Pretrain a nano backbone and write weights, recipe, training log and model card."""
    from simulation.pretraining import default_folder, nano_model
    from simulation.pretraining import pretrain as train_from_scratch

    nano_model(name)
    folder = out or default_folder(name)
    console = error_console()
    columns = (
        TextColumn(name),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("loss {task.fields[loss]:.4f}"),
        TimeRemainingColumn(),
    )
    with (
        left_when_stopped(f"nothing was written to {folder}"),
        Progress(*columns, console=console, disable=not is_live(console)) as bar,
    ):
        task = bar.add_task(name, total=steps, loss=float("nan"))

        def show(step: int, total: int, loss: float) -> None:
            bar.update(task, completed=step, total=total, loss=loss)

        train_from_scratch(name, folder, steps=steps, seed=seed, progress=show)
    print_line(f"Weights: {folder}")
