"""`python -m simulation run`: the federation over a prepared cohort, evaluated, with a report."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from secrets import token_hex
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from common.config.run_config import RunConfig, parse_settings
from common.console import HiddenName, output_console
from common.errors import UsageError
from common.paths import current_cohort, home

if TYPE_CHECKING:
    from simulation.tracking import Tracker

Data = Annotated[Path | None, typer.Option(help="Cohort folder. [default: the one prepared last]")]
Out = Annotated[Path | None, typer.Option(help="Run folder. [default: FEDVITALS_HOME/runs/TIME]")]
Engine = Annotated[str, typer.Option(help="inprocess, or ray (`flwr run`, a process a client).")]
Backbone = Annotated[str | None, typer.Option(help="A known backbone, or a folder of weights.")]
Rounds = Annotated[int | None, typer.Option(help="Rounds of the federation.")]
Seed = Annotated[int | None, typer.Option(help="Seed of everything random.")]
Settings = Annotated[
    list[str] | None,
    typer.Option("-c", "--set", metavar="KEY=VALUE", help="A setting of the run; repeatable."),
    HiddenName("--config"),
]
Sites = Annotated[
    list[str] | None,
    typer.Option(
        "--site",
        metavar="SITE.KEY=VALUE",
        help="What a site sets for itself, e.g. micu.lora-rank=4, as often as needed.",
    ),
]
Resume = Annotated[
    Path | None, typer.Option(help="Go on with the run in this folder, with its own settings.")
]
Track = Annotated[
    str | None,
    typer.Option(help="Follow the rounds in tensorboard (in the run folder) or mlflow."),
]


def run(
    data: Data = None,
    out: Out = None,
    engine: Engine = "inprocess",
    backbone: Backbone = None,
    rounds: Rounds = None,
    seed: Seed = None,
    config: Settings = None,
    site: Sites = None,
    resume: Resume = None,
    track: Track = None,
) -> None:
    """Train one global adapter over the sites of a cohort, evaluate it and write a report."""
    own = split_site_settings(site or [])
    options = {
        "data": str(data or current_cohort()) if resume is None else None,
        "out": str(out or home() / "runs" / f"{time.strftime('%Y%m%d-%H%M%S')}-{token_hex(2)}"),
        "backbone": backbone,
        "rounds": rounds,
        "seed": seed,
    }
    given = {key: value for key, value in options.items() if value is not None}
    if resume is None:
        settings = parse_settings(config or [], given)
    else:
        beyond = [out, backbone, rounds, seed, *(config or [])]
        settings = _resumed(resume, data, any(value is not None for value in beyond))

    from server.release.console_tables import evaluation_tables
    from server.release.evaluation import evaluate_run
    from simulation.engines.inprocess import quiet_flower
    from simulation.progress import RunProgress
    from simulation.run import federate

    console = output_console()
    if console.is_terminal:
        quiet_flower()  # the bar tells what its lines would
    tracker = _tracker(track, settings)
    on_look = tracker.look if tracker else None
    progress = RunProgress(Path(settings.out), settings.rounds, Console(stderr=True), on_look)
    with progress.shown():
        folder = federate(settings, engine, progress, own)
    with console.status("evaluating on the test split"):
        result = evaluate_run(folder, Path(settings.data))
    if tracker:
        tracker.finish()
    for table in evaluation_tables(result):
        console.print(table)
    console.print(f"Adapter: {folder / 'adapter'}", soft_wrap=True, highlight=False)
    console.print(f"Report:  {folder / 'report.html'}", soft_wrap=True, highlight=False)


def split_site_settings(given: Sequence[str]) -> dict[str, dict[str, str]]:
    """Return the sites' own settings by site.

    Args:
        given: what stood behind each ``--site``, e.g. ``micu.lora-rank=4``.

    Raises:
        UsageError: where one is not ``SITE.KEY=VALUE``.
    """
    own: dict[str, dict[str, str]] = {}
    for text in given:
        site, dot, pair = text.partition(".")
        key, equals, value = pair.partition("=")
        if not (site and dot and key and equals):
            raise UsageError(
                f"--site takes SITE.KEY=VALUE, e.g. --site micu.lora-rank=4, got {text!r}"
            )
        own.setdefault(site, {})[key] = value
    return own


def _tracker(kind: str | None, settings: RunConfig) -> Tracker | None:
    if kind is None:
        return None
    from simulation.tracking import Tracker

    return Tracker(kind, Path(settings.out), settings.flat())


def _resumed(folder: Path, data: Path | None, others: bool) -> RunConfig:
    """The settings of a run that goes on: its own, but for where the cohort now lies."""
    from server.runs.run_folder import read_config

    if others:
        raise UsageError("--resume goes on with the run's own settings; give none beside it")
    recorded = dict(read_config(folder)["settings"])
    moved = {"data": str(data)} if data is not None else {}
    return RunConfig.parse({**recorded, **moved, "out": str(folder), "resume": True})
