"""`python -m client check`: what a site table holds, and what looks wrong with it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from common.console import output_console
from common.errors import TrainingError

Folder = Annotated[
    Path, typer.Argument(metavar="DIR", help="A folder made by `ingest`, or a site table.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the report as JSON.")]


def check(folder: Folder, as_json: AsJson = False) -> None:
    """Say on a page what a site table holds and what is wrong; fail where none could train on it.

    The exit code is 9 where the table is valid but cannot be trained on.
    """
    from client.data_quality.report import check_folder, render_report

    reports = check_folder(folder)
    if as_json:
        print(json.dumps([report.to_json() for report in reports], indent=2, ensure_ascii=False))
    else:
        for report in reports:
            output_console().print(render_report(report))
    if not all(report.can_train for report in reports):
        raise typer.Exit(TrainingError.exit_code)
