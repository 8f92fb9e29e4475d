"""`python -m client node`: a site's process, and what it would send."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

Config = Annotated[Path, typer.Option("--config", metavar="FILE", help="The site's site.toml.")]
DryRun = Annotated[
    Path | None,
    typer.Option(
        metavar="BUNDLE",
        help="Connect to nothing: train one round with this app bundle and write what would leave.",
        show_default=False,
    ),
]
Out = Annotated[
    Path, typer.Option(metavar="DIR", help="Where --dry-run writes; replaced if it is there.")
]


def node(config: Config, dry_run: DryRun = None, out: Out = Path("dry-run")) -> None:
    """Run the site's node until it is told to stop.

    It ends with 70 where the connection is lost for good, to be started again by systemd or a
    container engine, and with 22 where somebody has to mend something first.
    """
    from client.site.config import load_site_config

    settings = load_site_config(config)
    if dry_run is None:
        from client.site.node import run_node

        run_node(settings)
    from client.site.dry_run import run_dry

    outcome = run_dry(settings, dry_run, out)
    console = Console()
    for line in outcome.lines:
        console.print(line, soft_wrap=True, highlight=False, markup=False)
    if not outcome.allowed:
        raise typer.Exit(1)
