"""`python -m client preflight`: whether a site's node will work, before it is started."""

from __future__ import annotations

import json
from dataclasses import asdict, astuple
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from common.config.run_config import RunConfig
from common.console import narrow_table, output_console

Config = Annotated[Path, typer.Option("--config", metavar="FILE", help="The site's site.toml.")]
Backbone = Annotated[
    str, typer.Option("--backbone", metavar="NAME", help="The model that the run will use.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")]

DEFAULT_BACKBONE = RunConfig().backbone


def preflight(
    config: Config, backbone: Backbone = DEFAULT_BACKBONE, as_json: AsJson = False
) -> None:
    """Check the way to the coordinator, the machine, and what is the site's own.

    Every finding has a code and, where something is to be done, a remedy. It ends with 1 where
    one is FAIL.
    """
    from client.config.site_config import load_site_config
    from client.preflight.machine import check_machine
    from client.preflight.network import check_network
    from client.preflight.site import check_site

    settings = load_site_config(config)
    findings = [
        *check_network(settings.server),
        *check_machine(settings, backbone),
        *check_site(settings, config),
    ]
    if as_json:
        typer.echo(json.dumps([asdict(finding) for finding in findings], indent=1))
    else:
        table = narrow_table("", ("check", "", "found", "to do"), ())
        for finding in findings:
            table.add_row(*map(escape, astuple(finding)))
        output_console().print(table)
    if any(finding.level == "FAIL" for finding in findings):
        raise typer.Exit(1)
