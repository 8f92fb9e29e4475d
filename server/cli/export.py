"""`python -m server export`, also of `python -m simulation`: a run's tables and figures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from common.console import print_line

_Run = Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a finished run.")]
_Folder = Annotated[
    Path,
    typer.Argument(
        metavar="FOLDER", help="The folder to write: a new one, or one of an earlier export."
    ),
]


def export(run: _Run, folder: _Folder) -> None:
    """Write a run's tables as CSV and LaTeX, and its figures as SVG and PDF.

    They are those of report.html. CSV has full precision; LaTeX needs booktabs alone. Nothing of a
    single patient is written. contents.csv lists the files.
    """
    from common.reporting.export.export import check_export_folder, export_summary
    from server.release.release import export_release

    check_export_folder(folder)
    export_release(run, folder)
    print_line(export_summary(folder))
