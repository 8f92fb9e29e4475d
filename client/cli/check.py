"""`python -m client check`: summary of a site table and its problems."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from common.console import output_console
from common.errors import TrainingError

_Folder = Annotated[
    Path, typer.Argument(metavar="DIR", help="A folder made by `ingest`, or a site table.")
]
_AsJson = Annotated[bool, typer.Option("--json", help="Print the report as JSON.")]


def check(folder: _Folder, as_json: _AsJson = False) -> None:
    """Summarise a site table and its problems; exit 9 if it cannot be trained on."""
    from client.data_quality.report import check_folder, render_check

    reports = check_folder(folder)
    if as_json:
        print(json.dumps([report.to_json() for report in reports], indent=2, ensure_ascii=False))
    else:
        for report in reports:
            console = output_console()
            console.print(render_check(report, console.width))
    if not all(report.can_train for report in reports):
        raise typer.Exit(TrainingError.exit_code)
