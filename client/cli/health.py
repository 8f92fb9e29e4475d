"""`python -m client health`: connection status of the running node, for container probes."""

from __future__ import annotations

import typer

from client.cli.options import SiteFile


def health(config: SiteFile) -> None:
    """Query the node's health endpoint; exit 1 if the site is not connected."""
    from client.config.site_config import load_site_config
    from client.node.health import ask_health

    address = load_site_config(config).node.health
    connected = ask_health(address)
    typer.echo("connected" if connected else f"not connected, or no node at {address}")
    if not connected:
        raise typer.Exit(1)
