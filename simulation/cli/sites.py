"""`python -m simulation sites`: what each site of a prepared cohort holds."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from common.console import output_console

Folder = Annotated[Path, typer.Argument(metavar="DIR", help="A folder made by `prepare`.")]


def sites(folder: Folder) -> None:
    """Print patients, stays, hours, split sizes and the share observed per vital, a row a site."""
    from common.data.summary import sites_table

    output_console().print(sites_table(folder))
