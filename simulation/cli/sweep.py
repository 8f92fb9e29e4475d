"""`python -m simulation sweep`: one question each, all arms on the same patients."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from common.data.cohort_folder import site_table_paths
from simulation.cli.experiments import (
    Data,
    FullRate,
    Only,
    Out,
    Seeds,
    Settings,
    numbers,
    output_folder,
    run_and_tell,
    settings_of,
)
from simulation.experiments.defaults import FULL_RATE, SEEDS

app = typer.Typer(help="Answer one question with many runs.", no_args_is_help=True)


@app.command("aggregation")
def aggregation(
    data: Data = None,
    out: Out = None,
    seeds: Seeds = SEEDS,
    only: Only = None,
    config: Settings = None,
) -> None:
    """How adapters become one, and what travels. Groups: ranks, wire, rules, optimizers."""
    settings = settings_of(data, config)
    sites = list(site_table_paths(Path(settings.data)))
    from simulation.experiments.studies.aggregation import aggregation_sweep, show_aggregation

    run_and_tell(
        aggregation_sweep(settings, sites),
        show_aggregation,
        seeds=seeds,
        out=out,
        name="sweep aggregation",
        config=config,
        only=only,
    )


@app.command("ranks")
def ranks(
    data: Data = None,
    out: Out = None,
    ranks: Annotated[str, typer.Option(help="Ranks, separated by commas.")] = "1,2,4,8,16,32",
    full_rate: FullRate = FULL_RATE,
    seeds: Seeds = SEEDS,
    only: Only = None,
    config: Settings = None,
) -> None:
    """The adapter's rank, with all weights as the end point. Groups: ranks, full."""
    settings = settings_of(data, config)
    given = numbers(ranks, "--ranks")
    from simulation.experiments.studies.ranks import ranks_sweep, show_ranks

    run_and_tell(
        ranks_sweep(settings, given, full_rate),
        show_ranks,
        seeds=seeds,
        out=out,
        name=f"sweep ranks --ranks {ranks} --full-rate {full_rate:g}",
        config=config,
        only=only,
    )


@app.command("backbones")
def backbones(
    data: Data = None,
    out: Out = None,
    backbones: Annotated[
        str, typer.Option(help="Names or folders, separated by commas. [default: the package's]")
    ] = "",
    seeds: Seeds = SEEDS,
    only: Only = None,
    config: Settings = None,
) -> None:
    """Every family, alone and tuned by the federation. A group each."""
    settings = settings_of(data, config)
    from simulation.experiments.studies.backbones import (
        backbones_sweep,
        packaged_backbones,
        show_backbones,
    )

    names = [name.strip() for name in backbones.split(",") if name.strip()]
    names = names or packaged_backbones()
    run_and_tell(
        backbones_sweep(settings, names),
        show_backbones,
        seeds=seeds,
        out=out,
        name=f"sweep backbones --backbones {','.join(names)}",
        config=config,
        only=only,
    )


@app.command("sites")
def sites(
    data: Data = None,
    out: Out = None,
    counts: Annotated[str, typer.Option(help="Sites of the random splits.")] = "2,5,10",
    seeds: Seeds = SEEDS,
    only: Only = None,
    config: Settings = None,
) -> None:
    """Care units against random hospitals, and their number. Groups: random, pooled."""
    settings = settings_of(data, config)
    given = numbers(counts, "--counts")
    from simulation.experiments.studies.sites import show_sites, sites_sweep

    run_and_tell(
        sites_sweep(settings, given, output_folder(out)),
        show_sites,
        seeds=seeds,
        out=out,
        name=f"sweep sites --counts {counts}",
        config=config,
        only=only,
    )


@app.command("privacy")
def privacy(
    data: Data = None,
    out: Out = None,
    epsilons: Annotated[str, typer.Option(help="Budgets; no privacy goes with them.")] = "10,3,1",
    rate: Annotated[
        float, typer.Option(help="privacy.learning-rate of every budget; 0 = falls with it.")
    ] = 0.0,
    seeds: Seeds = SEEDS,
    only: Only = None,
    config: Settings = None,
) -> None:
    """Budgets, training B alone (group b) or both matrices (group ab)."""
    settings = settings_of(data, config)
    given = numbers(epsilons, "--epsilons", float)
    from simulation.experiments.studies.privacy import privacy_sweep, show_privacy

    run_and_tell(
        privacy_sweep(settings, given, rate or None),
        show_privacy,
        seeds=seeds,
        out=out,
        name=f"sweep privacy --epsilons {epsilons}" + (f" --rate {rate:g}" if rate else ""),
        config=config,
        only=only,
    )
