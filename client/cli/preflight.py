"""`python -m client preflight`: checks of a site's node before it is started."""

from __future__ import annotations

import json
from dataclasses import asdict, astuple
from typing import Annotated

import typer
from rich.markup import escape

from client.cli.options import SiteFile
from common.config.run_config import RunConfig
from common.console import narrow_table, output_console

_Backbone = Annotated[
    str, typer.Option("--backbone", metavar="NAME", help="The backbone of the planned run.")
]
_AsJson = Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")]

DEFAULT_BACKBONE = RunConfig().backbone


def preflight(
    config: SiteFile, backbone: _Backbone = DEFAULT_BACKBONE, as_json: _AsJson = False
) -> None:
    """Check the network, the machine and the site's files before the node is started.

    Each finding has a code and, where needed, a remedy. Exit code 1: at least one is FAIL.
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
