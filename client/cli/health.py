"""`python -m client health`: whether the running node is connected, for probes without a tool."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Config = Annotated[Path, typer.Option("--config", metavar="FILE", help="The site's site.toml.")]


def health(config: Config) -> None:
    """Ask the node's health endpoint; ends with 1 where the site is cut off."""
    from client.config.site_config import load_site_config
    from client.node.health import ask_health

    address = load_site_config(config).node.health
    connected = ask_health(address)
    typer.echo("connected" if connected else f"not connected, or no node at {address}")
    if not connected:
        raise typer.Exit(1)
