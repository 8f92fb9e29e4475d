"""`python -m simulation run`: a federation over a prepared cohort, with evaluation and report."""

from __future__ import annotations

import shlex
import time
from collections.abc import Sequence
from pathlib import Path
from secrets import token_hex
from typing import TYPE_CHECKING, Annotated

import typer

from client.app.site_settings import SETTABLE
from common.config.run_config import RunConfig, parse_settings
from common.console import (
    ExportFolder,
    HiddenName,
    error_console,
    output_console,
    print_line,
    working,
)
from common.data.cohort_folder import check_prepared_steps, cohort_line
from common.errors import FederationError, UsageError
from common.files.paths import PREPARED_LAST, current_cohort, home
from common.interrupts import left_when_stopped

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
        help=f"A site's own setting, repeatable: {', '.join(SETTABLE)}. E.g. --site "
        "micu.lora-rank=4 -c aggregation.rule=svd -c lora.min-rank=4",
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

    check_prepared_steps(settings)  # before the imports below, which take seconds
    from common.reporting.export.export import check_export_folder, export_summary
    from server.release.console_tables import evaluation_tables
    from server.release.evaluation import evaluate_run
    from server.runs.run_folder import check_run_folder
    from simulation.progress import RunProgress
    from simulation.run import federate

    if export is not None:
        check_export_folder(export)
    console = output_console()
    check_run_folder(Path(settings.out), settings.resume)  # the tracker writes into it
    why = f"{PREPARED_LAST}; --data names another" if data is None else "named with --data"
    if resume is not None and data is None:
        why = "the run's own"
    print_line(cohort_line(Path(settings.data), why))
    tracker = _tracker(track, settings)
    on_look = tracker.look if tracker else None
    progress = RunProgress(Path(settings.out), settings.rounds, error_console(), on_look)
    with left_when_stopped(lambda: _kept(Path(settings.out), settings.data)):
        with progress.shown():
            folder = federate(settings, engine, progress, own)
        with working("evaluating on the test split"):
            result = evaluate_run(folder, Path(settings.data), export=export)
    with left_when_stopped(f"the run is whole; its report: {folder / 'report.html'}"):
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
        settings = own.setdefault(site, {})
        if key in settings:
            raise UsageError(f"--site {site}.{key} is given twice; give it once")
        settings[key] = value
    return own


def _kept(folder: Path, data: str) -> str:
    """Return what an interrupted run leaves, and the command that continues it."""
    from common.adapter.trained_adapter import ADAPTER_FOLDER
    from server.runs.run_folder import CHECKPOINT_FILE

    if (folder / ADAPTER_FOLDER).is_dir():
        return (
            f"the adapter is in {folder}, its evaluation is not complete; repeat it: python -m "
            f"server evaluate --adapter {shlex.quote(str(folder))} --data {shlex.quote(data)}"
        )
    if (folder / CHECKPOINT_FILE).is_file():
        return (
            f"the rounds so far are in {folder}; continue: python -m simulation run --resume "
            f"{shlex.quote(str(folder))}"
        )
    return "no round was complete; start the command again"


def _tracker(kind: str | None, settings: RunConfig) -> Tracker | None:
    if kind is None:
        return None
    from simulation.tracking import Tracker

    return Tracker(kind, Path(settings.out), settings.flat())


def _resumed(folder: Path, data: Path | None, others: bool) -> RunConfig:
    """Return the recorded settings of a run to resume, with the cohort's present folder."""
    from common.adapter.trained_adapter import RUN_CONFIG_FILE
    from server.runs.run_folder import read_run_config

    if others:
        raise UsageError("--resume uses the run's own settings; give none beside it")
    if not (folder / RUN_CONFIG_FILE).exists():
        raise FederationError(f"{folder} holds no run to resume; start one there with --out")
    recorded = dict(read_run_config(folder)["settings"])
    # `flwr run .` follows the cohort prepared last, and records no folder.
    moved = {"data": str(data or recorded["data"] or current_cohort())}
    return RunConfig.parse({**recorded, **moved, "out": str(folder), "resume": True})
