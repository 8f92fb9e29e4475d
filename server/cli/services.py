"""`python -m server start`, `status` and `stop`: the coordinator's services."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Annotated

import typer

from common.console import narrow_table, output_console
from common.errors import FederationError
from server.deployment.server_config import read_server_config

ServerFile = Annotated[
    Path, typer.Option("--config", metavar="FILE", help="The coordinator's settings.")
]
SERVER_FILE = Path("server.toml")
OperatorFile = Annotated[
    Path | None,
    typer.Option(
        "--operator",
        metavar="FILE",
        help="Your credential; - is the standard input. [default: FEDVITALS_OPERATOR, else the "
        "file operator in FEDVITALS_HOME]",
    ),
]
Background = Annotated[bool, typer.Option(help="Return when the services are ready.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON object instead of tables.")]


def start(config: ServerFile = SERVER_FILE, background: Background = False) -> None:
    """Start SuperLink and SuperExec, register the sites' keys, and keep both running.

    Stays in the foreground, for systemd or a container, unless told otherwise. The first start
    makes you an operator; `operators add` makes others.
    """
    from server.deployment.supervisor import serve, serve_in_background

    settings = read_server_config(config)
    if background:
        serve_in_background(settings, config, say)
        say(f"the services run; their logs are in {settings.state / 'logs'}")
    else:
        serve(settings, lambda line: say(f"{time.strftime('%Y-%m-%dT%H:%M:%S')} {line}"))


def stop(config: ServerFile = SERVER_FILE) -> None:
    """End the services; a run in progress ends as failed and can be resumed."""
    from server.deployment import supervisor

    stopped = supervisor.stop(read_server_config(config).state)
    say("stopped" if stopped else "the services did not run")


def status(
    config: ServerFile = SERVER_FILE, json_: Json = False, operator: OperatorFile = None
) -> None:
    """Say whether the services run, which sites are connected, and how the runs stand."""
    from server.deployment import supervisor
    from server.deployment.site_keys import SiteKeys

    settings = read_server_config(config)
    pids = supervisor.running(settings.state)
    if not pids:
        raise FederationError(
            f"the services of {settings.state} do not run; `python -m server start --config "
            f"{config}` starts them"
        )
    flower = supervisor.flower_of(settings, operator)
    sites, runs = SiteKeys(settings.state, flower).statuses(), flower.runs()
    if json_:
        # Plain print: rich would wrap it.
        print(json.dumps({"services": pids, "sites": sites, "runs": runs}))
        return
    console = output_console()
    for title, rows in (("Services", pids), ("Sites", sites), ("Runs", runs)):
        table = narrow_table(title, ["name", "pid" if title == "Services" else "status"], [])
        for name, value in rows.items():
            table.add_row(name, str(value))
        console.print(table)


def say(line: str) -> None:
    """Print a line as it is, at once: a log must not lag behind."""
    print(line, flush=True)
