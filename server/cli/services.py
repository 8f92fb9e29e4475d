"""`python -m server start`, `status` and `stop`: the coordinator's services."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Annotated

import typer

from common.config.default_file import default_file_option
from common.console import narrow_table, output_console, print_line
from common.errors import FederationError
from server.deployment.server_config import read_server_config

ServerFile = Annotated[Path, default_file_option("server.toml", "The coordinator's server.toml")]
OperatorFile = Annotated[
    Path | None,
    typer.Option(
        "--operator",
        metavar="FILE",
        help="Your credential; - reads standard input. [default: FEDVITALS_OPERATOR, else "
        "FEDVITALS_HOME/operator]",
    ),
]
_Background = Annotated[bool, typer.Option(help="Return when the services are ready.")]
_Json = Annotated[bool, typer.Option("--json", help="Print a JSON object instead of tables.")]


def start(config: ServerFile, background: _Background = False) -> None:
    """Start SuperLink and SuperExec, register the sites' keys, and keep both running.

    Runs in the foreground, for systemd or a container, unless --background is given. The first
    start makes you an operator; `operators add` adds others.
    """
    from server.deployment.supervisor import serve, serve_in_background

    settings = read_server_config(config)
    if background:
        serve_in_background(settings, config, print_line)
        print_line(f"the services are running; their logs are in {settings.state / 'logs'}")
    else:
        serve(settings, lambda line: print_line(f"{time.strftime('%Y-%m-%dT%H:%M:%S')} {line}"))


def stop(config: ServerFile) -> None:
    """Stop the services; a run in progress fails and can be resumed."""
    from server.deployment import supervisor

    stopped = supervisor.stop(read_server_config(config).state)
    print_line("stopped" if stopped else "the services were not running")


def status(config: ServerFile, json_: _Json = False, operator: OperatorFile = None) -> None:
    """Show the services, the sites and the status of the runs.

    A site whose node was killed is `not heard for N s` after 15 seconds, and offline after 60.
    """
    from server.deployment import supervisor
    from server.deployment.site_keys import SiteKeys

    settings = read_server_config(config)
    pids = supervisor.running(settings.state)
    if not pids:
        raise FederationError(
            f"the services of {settings.state} are not running; start them: python -m server "
            f"start --config {config}"
        )
    flower = supervisor.flower_of(settings, operator)
    sites, runs = SiteKeys(settings.state, flower).statuses(), flower.runs()
    if json_:
        print_line(json.dumps({"services": pids, "sites": sites, "runs": runs}))
        return
    console = output_console()
    for title, rows in (("Services", pids), ("Sites", sites), ("Runs", runs)):
        table = narrow_table(title, ["name", "pid" if title == "Services" else "status"], [])
        for name, value in rows.items():
            table.add_row(name, str(value))
        console.print(table)
