"""`python -m client node`: a site's process."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Config = Annotated[Path, typer.Option("--config", metavar="FILE", help="The site's site.toml.")]


def node(config: Config) -> None:
    """Run the site's node until it is told to stop.

    It ends with 70 where the connection is lost for good, to be started again by systemd or a
    container engine, and with 22 where somebody has to mend something first.
    """
    from client.site.config import load_site_config
    from client.site.node import run_node

    run_node(load_site_config(config))
