"""`python -m simulation run`: a federation over a prepared cohort, with evaluation and report."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from secrets import token_hex
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from common.config.run_config import RunConfig, parse_settings
from common.console import ExportFolder, HiddenName, output_console, print_line
from common.errors import UsageError
from common.files.paths import current_cohort, home

if TYPE_CHECKING:
    from simulation.tracking import Tracker

_DEFAULTS = RunConfig()

_Data = Annotated[Path | None, typer.Option(help="Cohort folder. [default: the one prepared last]")]
_Out = Annotated[Path | None, typer.Option(help="Run folder. [default: FEDVITALS_HOME/runs/TIME]")]
_Engine = Annotated[
    str, typer.Option(help="inprocess, or ray (`flwr run`, one process per client).")
]
_Backbone = Annotated[
    str | None,
    typer.Option(help=f"Name or folder of the backbone. [default: {_DEFAULTS.backbone}]"),
]
_Rounds = Annotated[
    int | None, typer.Option(help=f"Number of rounds. [default: {_DEFAULTS.rounds}]")
]
_Seed = Annotated[
    int | None, typer.Option(help=f"Seed of all random numbers. [default: {_DEFAULTS.seed}]")
]
_Settings = Annotated[
    list[str] | None,
    typer.Option("-c", "--set", metavar="KEY=VALUE", help="A setting of the run; repeatable."),
    HiddenName("--config"),
]
_Sites = Annotated[
    list[str] | None,
    typer.Option(
        "--site",
        metavar="SITE.KEY=VALUE",
        help="A site's own setting, e.g. micu.lora-rank=4; repeatable.",
    ),
]
_Resume = Annotated[
    Path | None, typer.Option(help="Resume the run in this folder, with its own settings.")
]
_Track = Annotated[
    str | None,
    typer.Option(help="Log the rounds to tensorboard (in the run folder) or mlflow."),
]


def run(
    data: _Data = None,
    out: _Out = None,
    engine: _Engine = "inprocess",
    backbone: _Backbone = None,
    rounds: _Rounds = None,
    seed: _Seed = None,
    config: _Settings = None,
    site: _Sites = None,
    resume: _Resume = None,
    track: _Track = None,
    export: ExportFolder = None,
) -> None:
    """Train one global adapter over a cohort's sites, evaluate it and write a report."""
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

    from common.reporting.export import check_export_folder, export_summary
    from server.release.console_tables import evaluation_tables
    from server.release.evaluation import evaluate_run
    from simulation.engines.inprocess import quiet_flower
    from simulation.progress import RunProgress
    from simulation.run import federate

    if export is not None:
        check_export_folder(export)
    console = output_console()
    if console.is_terminal:
        quiet_flower()  # the progress bar replaces its lines
    tracker = _tracker(track, settings)
    on_look = tracker.look if tracker else None
    progress = RunProgress(Path(settings.out), settings.rounds, Console(stderr=True), on_look)
    with progress.shown():
        folder = federate(settings, engine, progress, own)
    with console.status("evaluating on the test split"):
        result = evaluate_run(folder, Path(settings.data), export=export)
    if tracker:
        tracker.finish()
    for table in evaluation_tables(result):
        console.print(table)
    print_line(f"Adapter: {folder / 'adapter'}")
    print_line(f"Report:  {folder / 'report.html'}")
    if export is not None:
        print_line(export_summary(export))


def split_site_settings(given: Sequence[str]) -> dict[str, dict[str, str]]:
    """Return the sites' own settings, by site.

    Args:
        given: values of ``--site``, e.g. ``micu.lora-rank=4``.

    Raises:
        UsageError: a value is not ``SITE.KEY=VALUE``.
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
    """Return the recorded settings of a run to resume, with the cohort's present folder."""
    from server.runs.run_folder import read_run_config

    if others:
        raise UsageError("--resume uses the run's own settings; give none beside it")
    recorded = dict(read_run_config(folder)["settings"])
    moved = {"data": str(data)} if data is not None else {}
    return RunConfig.parse({**recorded, **moved, "out": str(folder), "resume": True})
