"""`python -m simulation reproduce`: every experiment, reduced to half an hour or in full."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from common.console import output_console
from simulation.cli.experiments import (
    Data,
    Out,
    Seeds,
    Settings,
    numbers,
    output_folder,
    settings_of,
)
from simulation.experiments.defaults import SEEDS

if TYPE_CHECKING:
    from simulation.experiments.run_experiment import Conducted

Full = Annotated[bool, typer.Option("--full", help="The real thing: hours, not minutes.")]


def reproduce(
    data: Data = None,
    out: Out = None,
    full: Full = False,
    seeds: Seeds = "",
    config: Settings = None,
) -> None:
    """Run compare and every sweep, and write one page that leads to theirs.

    Reduced, it takes seed 0 and small runs; in full, three seeds and the settings' defaults.
    """
    from simulation.experiments.run_experiment import summary_table
    from simulation.experiments.studies.reproduce import REDUCED
    from simulation.experiments.studies.reproduce import reproduce as reproduce_all

    pairs = list(config or [])
    if not full:
        given = {pair.partition("=")[0].strip() for pair in pairs}
        pairs += [f"{key}={value}" for key, value in REDUCED.items() if key not in given]
    settings = settings_of(data, pairs)
    console = output_console()

    def tell(done: Conducted) -> None:
        console.print(summary_table(done.analysis, done.page.parent.name))
        console.print(done.shown.headline, highlight=False)

    page = reproduce_all(
        settings,
        numbers(seeds or (SEEDS if full else "0"), "--seeds"),
        output_folder(out) / ("full" if full else "reduced"),
        full=full,
        pairs="".join(f" -c {pair}" for pair in pairs),
        console=Console(stderr=True),
        tell=tell,
    )
    console.print(f"Page: {page}", soft_wrap=True, highlight=False)
