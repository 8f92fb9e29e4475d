"""`python -m server run`: one run over the connected sites, followed until it ends."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from common.config.run_config import parse_settings
from common.console import print_line
from common.errors import FederationError
from common.files.paths import home
from server.cli.services import OperatorFile, ServerFile
from server.deployment.control_log import control_log, started_by
from server.deployment.server_config import read_server_config
from server.deployment.supervisor import flower_of, running
from server.runs.follow import RoundLines

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
    server = read_server_config(config)
    chosen = parse_settings(settings or [], {})
    if not running(server.state):
        raise FederationError(
            f"the services are not running; start them: python -m server start --config {config}"
        )
    flower = flower_of(server, operator)
    if attach is None:
        pairs = chosen.flat()
        pairs["out"] = str(Path(chosen.out).absolute()) if chosen.out else ""
        number = flower.start_run(server.app, pairs)
    else:
        number = attach
    who = started_by(number, control_log(server.state)) or "an operator that the log does not name"
    print_line(f"run {number} started by {who}")
    folder = Path(chosen.out).absolute() if chosen.out else home() / "runs" / number
    lines = RoundLines(folder, chosen.rounds, print_line)
    try:
        status = flower.finish(number, lines.print_new, PATIENCE_S)
    except KeyboardInterrupt:
        print_line(f"run {number} continues; follow it: python -m server run --attach {number}")
        raise
    print_line(f"run {number} {status}; written in {folder}")


def stop_run(
    run: Annotated[str, typer.Argument(metavar="RUN", help="The run's id.")],
    config: ServerFile,
    operator: OperatorFile = None,
) -> None:
    """Stop one run, which can be resumed later; the services keep running."""
    flower_of(read_server_config(config), operator).stop_run(run)
    print_line(f"run {run} stopped")
