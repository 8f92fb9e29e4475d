"""`python -m client app`: the process in which the researcher's app runs, apart from the node."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

SiteFile = Annotated[Path, typer.Option("--config", metavar="FILE", help="The site's settings.")]


def app(config: SiteFile = Path("site.toml")) -> None:
    """Ask the node for work and run the approved app on it.

    It needs no way out but the node's local interface, and alone reads the site table.
    """
    from client.config.site_config import load_site_config
    from client.node.isolation.app_process import run_app_process
    from common.backbones.weights_store import install_packaged

    settings = load_site_config(config)
    install_packaged()
    run_app_process(settings.node, settings.site.state)
