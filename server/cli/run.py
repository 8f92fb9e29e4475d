"""`python -m server run`: one run over the connected sites, followed until it ends."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from common.adapter.trained_adapter import RUN_CONFIG_FILE
from common.config.run_config import RunConfig, parse_settings
from common.console import print_line
from common.errors import FederationError, UsageError
from common.files.paths import home
from common.interrupts import left_when_stopped
from common.names import check_name
from server.cli.services import OperatorFile, ServerFile
from server.deployment.control_log import control_log, started_by
from server.deployment.flwr_subprocess import Flower
from server.deployment.server_config import ServerConfig, read_server_config
from server.deployment.site_keys import SiteKeys
from server.deployment.started_runs import folder_of, note_folder
from server.deployment.supervisor import flower_of, running
from server.runs.follow import RoundLines
from server.runs.run_folder import (
    CHECKPOINT_FILE,
    check_run_folder,
    read_run_config,
)

_Settings = Annotated[
    list[str] | None,
    typer.Option("-c", "--set", metavar="KEY=VALUE", help="A setting of the run; repeatable."),
]
_Attach = Annotated[
    str | None, typer.Option(metavar="RUN", help="Follow this run instead of starting one.")
]

PATIENCE_S = 120.0
"""Longest absence of the SuperLink in seconds: its restart takes about ten."""


def run(
    config: ServerFile,
    settings: _Settings = None,
    attach: _Attach = None,
    operator: OperatorFile = None,
) -> None:
    """Start a run, print its rounds, and exit 0 only if it completed.

    Ctrl-C ends the display, not the run.
    """
    if attach and settings:
        raise UsageError("--attach follows a run with its own settings; give no -c beside it")
    server = read_server_config(config)
    chosen = parse_settings(settings or [], {})
    if not running(server.state):
        raise FederationError(
            f"the services are not running; start them: python -m server start --config {config}"
        )
    flower = flower_of(server, operator)
    if attach is None:
        number, folder = _start(flower, server, chosen)
    else:
        flower.status(attach)  # an unknown run has no starter
        number, known = attach, folder_of(server.state, attach)
        folder = known or home() / "runs" / number
    who = started_by(number, control_log(server.state)) or "an operator that the log does not name"
    print_line(f"run {number} started by {who}")
    lines = RoundLines(folder, print_line, number)
    with left_when_stopped(
        f"run {number} continues; follow it: python -m server run --attach {number}"
    ):
        status = flower.finish(number, lines.print_new, PATIENCE_S)
    where = f"written in {folder}" if lines.begun else "its run folder is not known here"
    print_line(f"run {number} {status}; {where}")


def _start(flower: Flower, server: ServerConfig, chosen: RunConfig) -> tuple[str, Path]:
    """Start a run; return its id and its folder."""
    pairs = chosen.flat()
    registered = SiteKeys(server.state, None).names()
    for site in chosen.federation.fixed_weights():
        check_name("site in federation.weights", site, registered)
    if chosen.out:
        out = Path(chosen.out).absolute()
        check_startable(out, chosen)
        pairs["out"] = str(out)
    with left_when_stopped("the run may have started; see: python -m server status"):
        number = flower.start_run(server.app, pairs)
    folder = Path(str(pairs["out"])) if chosen.out else home() / "runs" / number
    note_folder(server.state, number, folder)
    return number, folder


def check_startable(path: Path, config: RunConfig) -> None:
    """Check, before the sites hear of it, that a folder can take a run or has it to resume.

    Raises:
        FederationError: it holds a run, or none to resume.
        UsageError: it holds a run with other settings.
    """
    if config.resume:
        from server.rounds.checkpoint import check_same_settings

        if not (path / RUN_CONFIG_FILE).exists():
            raise FederationError(
                f"{path} holds no run to resume; start one there without -c resume=true"
            )
        begun = (path / CHECKPOINT_FILE).exists()
        check_same_settings(config, read_run_config(path)["settings"], begun=begun)
    else:
        check_run_folder(path, simulated=False)


def stop_run(
    run: Annotated[str, typer.Argument(metavar="RUN", help="The run's id.")],
    config: ServerFile,
    operator: OperatorFile = None,
) -> None:
    """Stop one run, which can be resumed later; the services keep running."""
    flower_of(read_server_config(config), operator).stop_run(run)
    print_line(f"run {run} stopped")
