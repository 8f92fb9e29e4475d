"""`python -m server sites`: register of the sites' public keys."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from common.console import narrow_table, output_console, print_line
from server.cli.services import OperatorFile, ServerFile
from server.deployment.server_config import ServerConfig, read_server_config
from server.deployment.site_keys import SiteKeys
from server.deployment.supervisor import flower_of, running

app = typer.Typer(help="Add, remove and list the sites that may join.", no_args_is_help=True)

_Name = Annotated[str, typer.Argument(help="The site's name.")]
_Key = Annotated[
    Path, typer.Argument(help="The site's public key: node.pub of `deploy/certs/request.sh`.")
]
_Replace = Annotated[bool, typer.Option("--replace", help="Revoke the site's present key.")]


@app.command()
def add(
    name: _Name,
    key: _Key,
    config: ServerFile,
    replace: _Replace = False,
    operator: OperatorFile = None,
) -> None:
    """Register a site's public key; the node with this key joins as this site only."""
    added = _keys(read_server_config(config), operator).add(name, key, replace=replace)
    print_line(f"{name} may join with the key {added.fingerprint}")


@app.command()
def remove(name: _Name, config: ServerFile, operator: OperatorFile = None) -> None:
    """Revoke a site's key at once; it can never be registered again."""
    removed = _keys(read_server_config(config), operator).remove(name)
    print_line(f"{name} is refused from now on; its key {removed.fingerprint} is never taken again")


@app.command(name="list")
def list_(config: ServerFile, operator: OperatorFile = None) -> None:
    """List the sites and their keys, and their status if the services are running.

    A site whose node was killed is `not heard for N s` after 15 seconds, and offline after 60.
    """
    settings = read_server_config(config)
    keys = _keys(settings, operator)
    statuses = keys.statuses()
    table = narrow_table("Sites that may join", ["site", "key", "status"], [])
    for name in keys.names():
        table.add_row(name, keys.key(name).fingerprint, statuses[name])
    output_console().print(table)


def _keys(settings: ServerConfig, operator: Path | None) -> SiteKeys:
    flower = flower_of(settings, operator) if running(settings.state) else None
    return SiteKeys(settings.state, flower)
