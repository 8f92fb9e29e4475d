"""`python -m server run`: one run over the connected sites, followed to its true end."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from common.config.run_config import parse_settings
from common.errors import FederationError
from common.paths import home
from server.cli.services import SERVER_FILE, OperatorFile, ServerFile, say
from server.deployment.control_log import control_log, started_by
from server.deployment.server_config import read_server_config
from server.deployment.supervisor import flower_of, running
from server.runs.follow import RoundLines

Settings = Annotated[
    list[str] | None,
    typer.Option("-c", "--set", metavar="KEY=VALUE", help="A run setting; repeatable."),
]
Attach = Annotated[
    str | None, typer.Option(metavar="RUN", help="Follow this run instead of starting one.")
]

PATIENCE_S = 120.0
"""How long the SuperLink may be gone: its restart takes some ten seconds."""


def run(
    config: ServerFile = SERVER_FILE,
    settings: Settings = None,
    attach: Attach = None,
    operator: OperatorFile = None,
) -> None:
    """Start a run, show its rounds, and exit with 0 only where it completed.

    Ctrl-C stops the watching, not the run.
    """
    server = read_server_config(config)
    chosen = parse_settings(settings or [], {})
    if not running(server.state):
        raise FederationError(
            f"the services do not run; `python -m server start --config {config}` starts them"
        )
    flower = flower_of(server, operator)
    if attach is None:
        pairs = chosen.flat()
        pairs["out"] = str(Path(chosen.out).absolute()) if chosen.out else ""
        number = flower.start_run(server.app, pairs)
    else:
        number = attach
    who = started_by(number, control_log(server.state)) or "an operator whom the log does not name"
    say(f"run {number} started by {who}")
    folder = Path(chosen.out).absolute() if chosen.out else home() / "runs" / number
    lines = RoundLines(folder, chosen.rounds, say)
    try:
        status = flower.finish(number, lines.print_new, PATIENCE_S)
    except KeyboardInterrupt:
        say(f"run {number} goes on; `python -m server run --attach {number}` follows it again")
        raise
    say(f"run {number} {status}; written in {folder}")


def stop_run(
    run: Annotated[str, typer.Argument(help="The run's id.")],
    config: ServerFile = SERVER_FILE,
    operator: OperatorFile = None,
) -> None:
    """Stop one run; the services go on. What its rounds reached can be resumed."""
    flower_of(read_server_config(config), operator).stop_run(run)
    say(f"run {run} stopped")
