"""`python -m simulation sites`: summary of each site of a prepared cohort."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from common.console import output_console

_Folder = Annotated[Path, typer.Argument(metavar="DIR", help="A folder made by `prepare`.")]


def sites(folder: _Folder) -> None:
    """Show each site's patients, stays, hours, split sizes and share observed per vital."""
    from common.data.summary import sites_table

    output_console().print(sites_table(folder))
