"""`python -m simulation reproduce`: every study, reduced to half an hour or in full."""

from __future__ import annotations

from functools import partial
from typing import Annotated

import typer

from common.console import ExportFolder, error_console, output_console, print_line
from simulation.cli.experiments import (
    Data,
    Out,
    Seeds,
    Settings,
    kept_cells,
    output_folder,
    parse_numbers,
    print_result,
    shared_settings,
)
from simulation.experiments.defaults import SEEDS

Full = Annotated[bool, typer.Option("--full", help="Run in full: hours instead of minutes.")]


def reproduce(
    data: Data = None,
    out: Out = None,
    full: Full = False,
    seeds: Seeds = "",
    config: Settings = None,
    export: ExportFolder = None,
) -> None:
    """Run compare and every sweep, and write one page that links to theirs.

    The reduced form has seed 0 and small runs; the full one three seeds and the default settings.
    """
    from simulation.experiments.studies.reproduce import REDUCED, reproduce_all

    pairs = list(config or [])
    if not full:
        given = {pair.partition("=")[0].strip() for pair in pairs}
        pairs += [f"{key}={value}" for key, value in REDUCED.items() if key not in given]
    console = output_console()
    folder = output_folder(out) / ("full" if full else "reduced")
    with kept_cells(folder):
        page = reproduce_all(
            shared_settings(data, pairs),
            parse_numbers(seeds or (SEEDS if full else "0"), "--seeds"),
            folder,
            full=full,
            pairs=pairs,
            console=error_console(),
            on_result=partial(print_result, console),
            export=export,
        )
    console.print(f"Page: {page}", soft_wrap=True, highlight=False)
    if export is not None:
        print_line(f"Exported: {export}: a folder for each study")
